// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
)

// messagesRequest is the part of an Anthropic Messages request that matters here.
type messagesRequest struct {
	Model    string          `json:"model"`
	Stream   bool            `json:"stream"`
	Messages json.RawMessage `json:"messages"`
	Tools    []struct {
		Name string `json:"name"`
	} `json:"tools"`
}

// messagesBlock is one block of a message's content.
type messagesBlock struct {
	Type      string          `json:"type"`
	ToolUseID string          `json:"tool_use_id"`
	Content   json.RawMessage `json:"content"`
}

// serveMessages answers POST …/messages and returns a note for the request log.
func (s *Server) serveMessages(w http.ResponseWriter, body []byte) string {
	var request messagesRequest
	if err := json.Unmarshal(body, &request); err != nil {
		writeError(w, http.StatusBadRequest, "not a messages request")
		return "malformed: " + err.Error()
	}
	var messages []struct {
		Content json.RawMessage `json:"content"`
	}
	_ = json.Unmarshal(request.Messages, &messages)
	var results []result
	for _, message := range messages {
		var blocks []messagesBlock
		// A message's content is a plain string when it has no blocks, and then there is no result in it.
		_ = json.Unmarshal(message.Content, &blocks)
		for _, block := range blocks {
			if block.Type == "tool_result" {
				results = append(results, result{block.ToolUseID, flatten(block.Content)})
			}
		}
	}
	var names []string
	for _, tool := range request.Tools {
		names = append(names, tool.Name)
	}
	tool := pickTool(names, "Bash")
	step := s.next(results, tool != "", string(request.Messages))

	stop := "end_turn"
	content := []object{{"type": "text", "text": step.Text}}
	if len(step.Calls) > 0 {
		stop, content = "tool_use", nil
	}
	for i, call := range step.Calls {
		name, input := s.toolOf(call, names, tool, func(call Call) object {
			return object{"command": call.Command, "description": "run a command of the script", "timeout": 60000}
		})
		content = append(content, object{"type": "tool_use", "id": s.issue("toolu", step, i), "name": name, "input": input})
	}
	message := object{
		"id": fmt.Sprintf("msg_%s_%d%02d", s.tag, step.script, max(step.number, 0)), "type": "message", "role": "assistant", "model": request.Model,
		"content": content, "stop_reason": stop, "stop_sequence": nil, "usage": messagesUsage(),
	}
	w.Header().Set("request-id", "req_"+s.tag)
	if request.Stream {
		sendMessage(newStream(w), message, content)
	} else {
		writeJSON(w, message)
	}
	return fmt.Sprintf("%v by tool %q", step, tool)
}

// sendMessage streams a message: an empty shell of it, its content block by block, and how it ended.
func sendMessage(out stream, message object, content []object) {
	start := maps.Clone(message)
	start["content"], start["stop_reason"] = []any{}, nil
	out.send("message_start", object{"message": start})
	for i, block := range content {
		empty, delta := object{"type": "text", "text": ""}, object{"type": "text_delta", "text": block["text"]}
		if block["type"] == "tool_use" {
			empty = object{"type": "tool_use", "id": block["id"], "name": block["name"], "input": object{}}
			delta = object{"type": "input_json_delta", "partial_json": encode(block["input"])}
		}
		out.send("content_block_start", object{"index": i, "content_block": empty})
		out.send("content_block_delta", object{"index": i, "delta": delta})
		out.send("content_block_stop", object{"index": i})
	}
	out.send("message_delta", object{
		"delta": object{"stop_reason": message["stop_reason"], "stop_sequence": nil}, "usage": messagesUsage(),
	})
	out.send("message_stop", object{})
}

func messagesUsage() object {
	return object{"input_tokens": 900, "output_tokens": 40, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300}
}
