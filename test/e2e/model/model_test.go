// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// twoSteps is a turn of one call, a turn of two, and the end.
func twoSteps() Script {
	return Script{
		{Calls: []Call{{Name: "first", Command: "echo one"}}},
		{Calls: []Call{{Name: "second", Command: "echo two"}, {Name: "third", Command: "echo three"}}},
		{Text: "done"},
	}
}

func start(t *testing.T, script Script) *Server {
	t.Helper()
	listener, err := Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server, err := Start(listener, script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// post sends a JSON body and returns the status and the whole answer.
func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// sseData decodes the data of each server-sent event, and checks that its name is the data's type.
func sseData(t *testing.T, text string) []map[string]any {
	t.Helper()
	var events []map[string]any
	var name string
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if after, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			name = after
		}
		after, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var data map[string]any
		if err := json.Unmarshal([]byte(after), &data); err != nil {
			t.Fatalf("event %q: %v", name, err)
		}
		if data["type"] != name {
			t.Errorf("event %q has type %v", name, data["type"])
		}
		events = append(events, data)
	}
	return events
}

func TestResponses(t *testing.T) {
	server := start(t, twoSteps())
	url := server.URL() + "/v1/responses"
	const tools = `"tools":[{"type":"web_search"},{"type":"function","name":"exec_command"}]`

	ask := func(input string) (ids, commands []string, text string) {
		status, answer := post(t, url, `{"model":"m","stream":true,`+tools+`,"input":`+input+`}`)
		if status != http.StatusOK {
			t.Fatalf("status %d: %s", status, answer)
		}
		events := sseData(t, answer)
		if last := events[len(events)-1]; last["type"] != "response.completed" {
			t.Errorf("the last event is %v", last["type"])
		}
		for _, data := range events {
			item, _ := data["item"].(map[string]any)
			switch {
			case data["type"] == "response.output_text.delta":
				text += data["delta"].(string)
			case data["type"] == "response.output_item.done" && item["type"] == "function_call":
				var arguments struct{ Cmd string }
				if err := json.Unmarshal([]byte(item["arguments"].(string)), &arguments); err != nil {
					t.Fatal(err)
				}
				ids, commands = append(ids, item["call_id"].(string)), append(commands, arguments.Cmd)
			}
		}
		return ids, commands, text
	}

	ids, commands, _ := ask(`"go"`)
	if len(ids) != 1 || commands[0] != "echo one" {
		t.Fatalf("turn 0: %v %v", ids, commands)
	}
	if again, _, _ := ask(`[{"type":"message","role":"user"}]`); len(again) != 1 || again[0] != ids[0] {
		t.Fatalf("turn 0 asked again: %v, want %v", again, ids)
	}
	first := `{"type":"function_call_output","call_id":"` + ids[0] + `","output":"one\n"}`
	ids, commands, _ = ask(`[` + first + `]`)
	if len(ids) != 2 || ids[0] == ids[1] || commands[0] != "echo two" || commands[1] != "echo three" {
		t.Fatalf("turn 1: %v %v", ids, commands)
	}
	second := `{"type":"function_call_output","call_id":"` + ids[1] + `","output":[{"type":"input_text","text":"thr"},{"type":"input_text","text":"ee"}]}`
	if ids, _, text := ask(`[` + first + `,` + second + `]`); len(ids) != 0 || text != "done" {
		t.Fatalf("turn 2: %v %q", ids, text)
	}
	calls := server.Calls()
	if !calls[0].Answered || calls[0].Output != "one\n" || calls[1].Answered || !calls[2].Answered || calls[2].Output != "three" {
		t.Errorf("calls: %+v", calls)
	}
}

// A tool inside a namespace has to be called by both names.
func TestResponsesNamespace(t *testing.T) {
	server := start(t, twoSteps())
	_, answer := post(t, server.URL()+"/v1/responses",
		`{"input":"go","tools":[{"type":"namespace","name":"functions","tools":[{"type":"function","name":"shell"}]}]}`)
	for _, want := range []string{`"name":"shell"`, `"namespace":"functions"`} {
		if !strings.Contains(answer, want) {
			t.Errorf("no %s in %s", want, answer)
		}
	}
}

func TestMessages(t *testing.T) {
	server := start(t, twoSteps())
	url := server.URL() + "/v1/messages?beta=true"
	const tools = `"tools":[{"name":"Read"},{"name":"Bash"}]`

	status, answer := post(t, url, `{"model":"m","stream":true,`+tools+`,"messages":[{"role":"user","content":"go"}]}`)
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, answer)
	}
	var id, input, stop string
	for _, data := range sseData(t, answer) {
		switch data["type"] {
		case "content_block_start":
			id = data["content_block"].(map[string]any)["id"].(string)
		case "content_block_delta":
			input += data["delta"].(map[string]any)["partial_json"].(string)
		case "message_delta":
			stop = data["delta"].(map[string]any)["stop_reason"].(string)
		}
	}
	if !strings.HasPrefix(id, "toolu_") || !strings.Contains(input, `"command":"echo one"`) || stop != "tool_use" {
		t.Fatalf("turn 0: id %q, input %q, stop %q", id, input, stop)
	}

	answerTo := func(id string) string {
		return `{"role":"user","content":[{"type":"tool_result","tool_use_id":"` + id + `","content":"out of ` + id + `"}]}`
	}
	_, answer = post(t, url, `{"model":"m",`+tools+`,"messages":[`+answerTo(id)+`]}`)
	var message struct {
		StopReason string `json:"stop_reason"`
		Content    []struct{ Type, ID, Name string }
	}
	if err := json.Unmarshal([]byte(answer), &message); err != nil {
		t.Fatal(err)
	}
	if len(message.Content) != 2 || message.Content[0].Name != "Bash" || message.StopReason != "tool_use" {
		t.Fatalf("turn 1: %+v", message)
	}
	_, answer = post(t, url, `{"stream":true,`+tools+`,"messages":[`+answerTo(id)+`,`+answerTo(message.Content[1].ID)+`]}`)
	if !strings.Contains(answer, `"text":"done"`) || !strings.Contains(answer, `"stop_reason":"end_turn"`) {
		t.Errorf("turn 2: %s", answer)
	}
	if calls := server.Calls(); calls[0].Output != "out of "+id {
		t.Errorf("calls: %+v", calls)
	}
}

// What an agent asks beside the conversation must not move the script, nor fail.
func TestSideRequests(t *testing.T) {
	server := start(t, twoSteps())
	for _, c := range []struct{ path, body, want string }{
		{"/v1/messages", `{"messages":[{"role":"user","content":"name this"}]}`, `"text":"ok"`},
		{"/v1/responses", `{"input":"name this"}`, `"delta":"ok"`},
		{"/v1/messages/count_tokens", `{}`, `"input_tokens"`},
		{"/v1/models", `{}`, `"data":[]`},
		{"/v1/traces", `{}`, `{}`},
	} {
		status, answer := post(t, server.URL()+c.path, c.body)
		if status != http.StatusOK || !strings.Contains(answer, c.want) {
			t.Errorf("%s: %d %s", c.path, status, answer)
		}
	}
	for _, path := range []string{"/v1/messages", "/v1/responses"} {
		if status, _ := post(t, server.URL()+path, `]`); status != http.StatusBadRequest {
			t.Errorf("%s with a malformed body: %d", path, status)
		}
	}
	if status, _ := post(t, server.URL()+"/elsewhere", `{}`); status != http.StatusNotFound {
		t.Errorf("an unknown path: %d", status)
	}
	for _, call := range server.Calls() {
		if call.ID != "" {
			t.Errorf("%s was issued", call.Name)
		}
	}
	if got := len(server.Requests()); got != 8 {
		t.Errorf("%d requests noted: %v", got, server.Requests())
	}
}

func TestValidate(t *testing.T) {
	call := []Call{{Name: "a", Command: "true"}}
	for name, script := range map[string]Script{
		"empty":               {},
		"ends in a call":      {{Calls: call}},
		"text in the middle":  {{Text: "x"}, {Text: "y"}},
		"call without a name": {{Calls: []Call{{Command: "true"}}}, {Text: "x"}},
		"two of one name":     {{Calls: call}, {Calls: call}, {Text: "x"}},
	} {
		if script.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := twoSteps().Validate(); err != nil {
		t.Error(err)
	}
}
