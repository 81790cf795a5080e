// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// generateRequest is the part of a Gemini request that matters here.
type generateRequest struct {
	Contents json.RawMessage `json:"contents"`
	Tools    []struct {
		FunctionDeclarations []struct {
			Name string `json:"name"`
		} `json:"functionDeclarations"`
	} `json:"tools"`
	GenerationConfig struct {
		MIMEType string          `json:"responseMimeType"`
		Schema   json.RawMessage `json:"responseJsonSchema"`
	} `json:"generationConfig"`
}

// generateContent is one message of the conversation.
type generateContent struct {
	Parts []struct {
		FunctionResponse *struct {
			ID       string `json:"id"`
			Response struct {
				Output json.RawMessage `json:"output"`
				Error  json.RawMessage `json:"error"`
			} `json:"response"`
		} `json:"functionResponse"`
	} `json:"parts"`
}

// serveGenerate answers POST …:generateContent and …:streamGenerateContent and returns a note for the request log.
func (s *Server) serveGenerate(w http.ResponseWriter, body []byte, streaming bool) string {
	var request generateRequest
	if err := json.Unmarshal(body, &request); err != nil {
		writeError(w, http.StatusBadRequest, "not a generate request")
		return "malformed: " + err.Error()
	}
	var contents []generateContent
	_ = json.Unmarshal(request.Contents, &contents)
	var results []result
	for _, content := range contents {
		for _, part := range content.Parts {
			if r := part.FunctionResponse; r != nil {
				results = append(results, result{r.ID, flatten(append(r.Response.Output, r.Response.Error...))})
			}
		}
	}
	var names []string
	for _, tool := range request.Tools {
		for _, function := range tool.FunctionDeclarations {
			names = append(names, function.Name)
		}
	}
	tool := pickTool(names, "run_shell_command")
	step := s.next(results, tool != "", string(request.Contents))
	if step.number < 0 && (request.GenerationConfig.Schema != nil || request.GenerationConfig.MIMEType == "application/json") {
		// Which model to ask, who speaks next: side jobs with an answer that is read.
		step.Text = `{"reasoning":"scripted","model_choice":"flash","complexity_reasoning":"scripted","complexity_score":1,"next_speaker":"user"}`
	}
	parts := []object{{"text": step.Text}}
	if len(step.Calls) > 0 {
		parts = nil
	}
	for i, call := range step.Calls {
		name, arguments := s.toolOf(call, names, tool, func(call Call) object {
			return object{"command": call.Command, "description": "run a command of the script"}
		})
		parts = append(parts, object{
			"functionCall":     object{"id": s.issue("call", step, i), "name": name, "args": arguments},
			"thoughtSignature": "c2NyaXB0ZWQ=",
		})
	}
	answer := object{
		"candidates":    []object{{"index": 0, "finishReason": "STOP", "content": object{"role": "model", "parts": parts}}},
		"usageMetadata": object{"promptTokenCount": 800, "candidatesTokenCount": 30, "totalTokenCount": 830},
		"modelVersion":  "scripted", "responseId": fmt.Sprintf("resp_%s_%d%02d", s.tag, step.script, max(step.number, 0)),
	}
	if streaming {
		newStream(w).data(encode(answer))
	} else {
		writeJSON(w, answer)
	}
	return fmt.Sprintf("%v by tool %q", step, tool)
}
