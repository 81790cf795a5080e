// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// responsesRequest is the part of an OpenAI Responses request that matters here.
type responsesRequest struct {
	Model string          `json:"model"`
	Input json.RawMessage `json:"input"`
	Tools []responsesTool `json:"tools"`
}

// responsesTool is a tool on offer, or a namespace of further ones.
type responsesTool struct {
	Type  string          `json:"type"`
	Name  string          `json:"name"`
	Tools []responsesTool `json:"tools"`
}

// responsesItem is one item of the conversation.
type responsesItem struct {
	Type   string          `json:"type"`
	CallID string          `json:"call_id"`
	Output json.RawMessage `json:"output"`
}

// serveResponses answers POST …/responses and returns a note for the request log.
func (s *Server) serveResponses(w http.ResponseWriter, body []byte) string {
	var request responsesRequest
	if err := json.Unmarshal(body, &request); err != nil {
		writeError(w, http.StatusBadRequest, "not a responses request")
		return "malformed: " + err.Error()
	}
	var items []responsesItem
	// The input is a plain string when there is no history, and then there are no results in it.
	_ = json.Unmarshal(request.Input, &items)
	var results []result
	for _, item := range items {
		if item.Type == "function_call_output" || item.Type == "custom_tool_call_output" {
			results = append(results, result{item.CallID, flatten(item.Output)})
		}
	}
	tool, namespace := responsesShell(request.Tools)
	step := s.next(results, tool != "", string(request.Input))
	namespaces := responsesNamespaces(request.Tools)

	out := newStream(w)
	id := fmt.Sprintf("resp_%s_%d%02d", s.tag, step.script, max(step.number, 0))
	out.send("response.created", object{"response": object{"id": id, "object": "response", "status": "in_progress", "model": request.Model}})
	for i, call := range step.Calls {
		callID := s.issue("call", step, i)
		name, arguments := s.toolOf(call, slices.Collect(maps.Keys(namespaces)), tool, func(call Call) object {
			return responsesArguments(tool, call)
		})
		item := object{
			"type": "function_call", "id": "fc_" + callID, "call_id": callID, "status": "completed",
			"name": name, "arguments": encode(arguments),
		}
		if space := namespaces[name]; len(call.Tool) > 0 && space != "" {
			item["namespace"] = space
		} else if len(call.Tool) == 0 && namespace != "" {
			item["namespace"] = namespace
		}
		out.send("response.output_item.added", object{"output_index": i, "item": item})
		out.send("response.output_item.done", object{"output_index": i, "item": item})
	}
	if len(step.Calls) == 0 {
		sendResponsesText(out, step.Text)
	}
	out.send("response.completed", object{"response": object{
		"id": id, "object": "response", "status": "completed", "model": request.Model,
		"usage": object{
			"input_tokens": 1000, "input_tokens_details": object{"cached_tokens": 500},
			"output_tokens": 50, "output_tokens_details": object{"reasoning_tokens": 5},
			"total_tokens": 1050,
		},
	}})
	return fmt.Sprintf("%v by tool %q", step, tool)
}

// sendResponsesText streams a message of the assistant.
func sendResponsesText(out stream, text string) {
	const id = "msg_final"
	part := object{"type": "output_text", "text": text, "annotations": []any{}}
	message := func(content ...any) object {
		return object{"type": "message", "id": id, "role": "assistant", "content": slices.Concat([]any{}, content)}
	}
	out.send("response.output_item.added", object{"output_index": 0, "item": message()})
	out.send("response.output_text.delta", object{"item_id": id, "output_index": 0, "content_index": 0, "delta": text})
	out.send("response.output_item.done", object{"output_index": 0, "item": message(part)})
}

// responsesShell finds the shell tool and, when it is inside one, its namespace.
func responsesShell(tools []responsesTool) (tool, namespace string) {
	wanted := []string{"exec_command", "shell_command", "shell"}
	var names []string
	for _, t := range tools {
		names = append(names, t.Name)
	}
	if tool := pickTool(names, wanted...); tool != "" {
		return tool, ""
	}
	for _, t := range tools {
		var inner []string
		for _, sub := range t.Tools {
			inner = append(inner, sub.Name)
		}
		if tool := pickTool(inner, wanted...); tool != "" {
			return tool, t.Name
		}
	}
	return "", ""
}

// responsesNamespaces is every tool on offer, with the namespace that it is in; "" for none.
func responsesNamespaces(tools []responsesTool) map[string]string {
	spaces := map[string]string{}
	for _, t := range tools {
		if len(t.Tools) == 0 {
			spaces[t.Name] = ""
		}
		for _, sub := range t.Tools {
			spaces[sub.Name] = t.Name
		}
	}
	return spaces
}

// responsesArguments is a shell call's arguments. The waits are long, so that the result of a command
// is its end and not a note that it is still running, on a slow machine too.
func responsesArguments(tool string, call Call) object {
	command := call.Command
	switch tool {
	case "exec_command":
		return object{"cmd": command, "yield_time_ms": cmp.Or(call.Wait, 30000)}
	case "shell":
		return object{"command": []string{"bash", "-c", command}, "timeout_ms": 60000}
	default:
		return object{"command": command, "timeout_ms": 60000}
	}
}
