// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// chatRequest is the part of an OpenAI chat completions request that matters here.
type chatRequest struct {
	Model    string          `json:"model"`
	Stream   bool            `json:"stream"`
	Messages json.RawMessage `json:"messages"`
	Tools    []struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	} `json:"tools"`
}

// serveChat answers POST …/chat/completions and returns a note for the request log.
func (s *Server) serveChat(w http.ResponseWriter, body []byte) string {
	var request chatRequest
	if err := json.Unmarshal(body, &request); err != nil {
		writeError(w, http.StatusBadRequest, "not a chat completions request")
		return "malformed: " + err.Error()
	}
	var messages []struct {
		Role       string          `json:"role"`
		ToolCallID string          `json:"tool_call_id"`
		Content    json.RawMessage `json:"content"`
	}
	_ = json.Unmarshal(request.Messages, &messages)
	var results []result
	for _, message := range messages {
		if message.Role == "tool" {
			results = append(results, result{message.ToolCallID, flatten(message.Content)})
		}
	}
	var names []string
	for _, tool := range request.Tools {
		names = append(names, tool.Function.Name)
	}
	tool := pickTool(names, "bash", "shell")
	step := s.next(results, tool != "", string(request.Messages))

	reason := "stop"
	message := object{"role": "assistant", "content": step.Text}
	var calls []object
	for i, call := range step.Calls {
		name, arguments := s.toolOf(call, names, tool, func(call Call) object {
			return object{"command": call.Command, "description": "run a command of the script", "timeout": 60000}
		})
		calls = append(calls, object{
			"index": i, "id": s.issue("call", step, i), "type": "function",
			"function": object{"name": name, "arguments": encode(arguments)},
		})
	}
	if len(calls) > 0 {
		reason, message["tool_calls"] = "tool_calls", calls
	}
	answer := object{
		"id": fmt.Sprintf("chatcmpl-%s%d%02d", s.tag, step.script, max(step.number, 0)), "created": 1_700_000_000, "model": request.Model,
	}
	usage := object{"prompt_tokens": 700, "completion_tokens": 20, "total_tokens": 720}
	if !request.Stream {
		answer["object"], answer["usage"] = "chat.completion", usage
		answer["choices"] = []object{{"index": 0, "message": message, "finish_reason": reason}}
		writeJSON(w, answer)
		return fmt.Sprintf("%v by tool %q", step, tool)
	}
	out := newStream(w)
	answer["object"] = "chat.completion.chunk"
	chunk := func(delta object, reason any) {
		answer["choices"] = []object{{"index": 0, "delta": delta, "finish_reason": reason}}
		out.data(encode(answer))
	}
	chunk(message, nil)
	answer["usage"] = usage
	chunk(object{}, reason)
	out.data("[DONE]")
	return fmt.Sprintf("%v by tool %q", step, tool)
}
