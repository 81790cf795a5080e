// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestChat(t *testing.T) {
	server := start(t, twoSteps())
	url := server.URL() + "/v1/chat/completions"
	const tools = `"tools":[{"type":"function","function":{"name":"read"}},{"type":"function","function":{"name":"bash"}}]`
	type call struct {
		ID       string
		Function struct{ Name, Arguments string }
	}
	ask := func(messages string) (calls []call, text string) {
		t.Helper()
		status, answer := post(t, url, `{"model":"m","stream":true,`+tools+`,"messages":`+messages+`}`)
		if status != http.StatusOK || !strings.HasSuffix(answer, "data: [DONE]\n\n") {
			t.Fatalf("status %d: %s", status, answer)
		}
		for line := range strings.Lines(answer) {
			var chunk struct {
				Choices []struct {
					Delta struct {
						Content string
						Calls   []call `json:"tool_calls"`
					}
				}
			}
			if data, ok := strings.CutPrefix(line, "data: {"); ok {
				if err := json.Unmarshal([]byte("{"+data), &chunk); err != nil {
					t.Fatal(err)
				}
				calls, text = append(calls, chunk.Choices[0].Delta.Calls...), text+chunk.Choices[0].Delta.Content
			}
		}
		return calls, text
	}
	calls, _ := ask(`[{"role":"user","content":"go"}]`)
	if len(calls) != 1 || calls[0].Function.Name != "bash" || !strings.Contains(calls[0].Function.Arguments, `"command":"echo one"`) {
		t.Fatalf("turn 0: %+v", calls)
	}
	first := `{"role":"tool","tool_call_id":"` + calls[0].ID + `","content":"one"}`
	calls, _ = ask(`[` + first + `]`)
	if len(calls) != 2 || calls[0].ID == calls[1].ID {
		t.Fatalf("turn 1: %+v", calls)
	}
	second := `{"role":"tool","tool_call_id":"` + calls[1].ID + `","content":[{"type":"text","text":"three"}]}`
	if calls, text := ask(`[` + first + `,` + second + `]`); len(calls) != 0 || text != "done" {
		t.Errorf("turn 2: %+v %q", calls, text)
	}
	if calls := server.Calls(); calls[0].Output != "one" || calls[2].Output != "three" {
		t.Errorf("%+v", calls)
	}
}

func TestGenerate(t *testing.T) {
	server := start(t, twoSteps())
	url := server.URL() + "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
	const tools = `"tools":[{"functionDeclarations":[{"name":"read_file"},{"name":"run_shell_command"}]}]`
	type part struct {
		Text         string
		FunctionCall *struct {
			ID, Name string
			Args     map[string]any
		}
	}
	ask := func(contents string) []part {
		t.Helper()
		status, answer := post(t, url, `{`+tools+`,"contents":`+contents+`}`)
		data, ok := strings.CutPrefix(answer, "data: ")
		var decoded struct {
			Candidates []struct {
				Content struct{ Parts []part }
			}
		}
		if status != http.StatusOK || !ok || json.Unmarshal([]byte(data), &decoded) != nil {
			t.Fatalf("status %d: %s", status, answer)
		}
		return decoded.Candidates[0].Content.Parts
	}
	parts := ask(`[{"role":"user","parts":[{"text":"go"}]}]`)
	if len(parts) != 1 || parts[0].FunctionCall.Name != "run_shell_command" || parts[0].FunctionCall.Args["command"] != "echo one" {
		t.Fatalf("turn 0: %+v", parts)
	}
	response := func(id, output string) string {
		return `{"role":"user","parts":[{"functionResponse":{"id":"` + id + `","name":"run_shell_command","response":{"output":"` + output + `"}}}]}`
	}
	first := response(parts[0].FunctionCall.ID, "one")
	parts = ask(`[` + first + `]`)
	if len(parts) != 2 {
		t.Fatalf("turn 1: %+v", parts)
	}
	if parts := ask(`[` + first + `,` + response(parts[1].FunctionCall.ID, "three") + `]`); len(parts) != 1 || parts[0].Text != "done" {
		t.Errorf("turn 2: %+v", parts)
	}
	if calls := server.Calls(); calls[0].Output != "one" || calls[2].Output != "three" {
		t.Errorf("%+v", calls)
	}
	status, answer := post(t, server.URL()+"/v1beta/models/x:generateContent", `{"generationConfig":{"responseMimeType":"application/json"}}`)
	if status != http.StatusOK || !strings.Contains(answer, "next_speaker") {
		t.Errorf("a side job: %d %s", status, answer)
	}
}

// A sub-agent's conversation is a script of its own, though the main one holds its prompt too.
func TestSubAgents(t *testing.T) {
	listener, err := Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	main := Script{
		{Calls: []Call{{Name: "before", Command: "true"}}},
		{Calls: []Call{{Name: "delegate", Tool: []string{"Task", "Agent"}, Arguments: map[string]any{"prompt": "SUBTASK one"}}}},
		{Text: "done"},
	}
	server, err := Start(listener, main, Sub{"SUBTASK one", Script{{Calls: []Call{{Name: "inner", Command: "echo in"}}}, {Text: "sub done"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	ask := func(messages string) (id, name, text string) {
		_, answer := post(t, server.URL()+"/v1/messages", `{"tools":[{"name":"Bash"},{"name":"Agent"}],"messages":`+messages+`}`)
		var message struct {
			Content []struct{ ID, Name, Text string }
		}
		if err := json.Unmarshal([]byte(answer), &message); err != nil {
			t.Fatal(err)
		}
		return message.Content[0].ID, message.Content[0].Name, message.Content[0].Text
	}
	result := func(id string) string {
		return `{"role":"user","content":[{"type":"tool_result","tool_use_id":"` + id + `","content":"ok"}]}`
	}
	before, _, _ := ask(`[{"role":"user","content":"go"}]`)
	delegate, name, _ := ask(`[` + result(before) + `]`)
	if name != "Agent" {
		t.Fatalf("the sub-agent is started by %q", name)
	}
	inner, name, _ := ask(`[{"role":"user","content":"SUBTASK one"}]`)
	if name != "Bash" || inner == before {
		t.Fatalf("the sub-agent's call: %q by %q", inner, name)
	}
	if _, _, text := ask(`[{"role":"user","content":"SUBTASK one"},` + result(inner) + `]`); text != "sub done" {
		t.Errorf("the sub-agent ends with %q", text)
	}
	history := `{"role":"assistant","content":[{"type":"tool_use","id":"` + delegate + `","input":{"prompt":"SUBTASK one"}}]}`
	if _, _, text := ask(`[` + result(before) + `,` + history + `,` + result(delegate) + `]`); text != "done" {
		t.Errorf("the main conversation ends with %q", text)
	}
	if calls := server.Calls(); len(calls) != 3 || calls[2].Name != "inner" || !calls[2].Answered {
		t.Errorf("%+v", calls)
	}
}

// What goes to a program that goes on has the number that Codex gave the program.
func TestSessionNumber(t *testing.T) {
	server := start(t, Script{
		{Calls: []Call{{Name: "shell", Command: "sh", Wait: 250}}},
		{Calls: []Call{{Name: "type", Tool: []string{"write_stdin"}, Arguments: map[string]any{"chars": "ls\n"}, Session: "shell"}}},
		{Text: "done"},
	})
	url := server.URL() + "/v1/responses"
	const tools = `"tools":[{"type":"namespace","name":"functions","tools":[{"name":"exec_command"},{"name":"write_stdin"}]}]`
	_, answer := post(t, url, `{`+tools+`,"input":"go"}`)
	if !strings.Contains(answer, `\"yield_time_ms\":250`) {
		t.Errorf("no wait in %s", answer)
	}
	id := server.Calls()[0].ID
	_, answer = post(t, url, `{`+tools+`,"input":[{"type":"function_call_output","call_id":"`+id+`","output":"Process running with session ID 33295\nOutput:"}]}`)
	for _, want := range []string{`"name":"write_stdin"`, `"namespace":"functions"`, `\"session_id\":33295`} {
		if !strings.Contains(answer, want) {
			t.Errorf("no %s in %s", want, answer)
		}
	}
}
