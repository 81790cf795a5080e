// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxBody bounds a request: a whole conversation with its tool results, and room to spare.
const maxBody = 32 << 20

// Server plays one script to one agent.
type Server struct {
	script Script
	tag    string
	addr   string
	http   *http.Server
	done   chan struct{}

	mu       sync.Mutex
	state    map[position]*Issued
	requests []string
}

// position is a call's place in the script.
type position struct{ turn, call int }

// Start serves the script on the listener until Close. The listener decides who can reach the model:
// a socket belongs to the network namespace of the thread that made it, so the caller makes it.
func Start(listener net.Listener, script Script) (*Server, error) {
	if err := script.Validate(); err != nil {
		return nil, fmt.Errorf("start the scripted model: %w", err)
	}
	random := make([]byte, 6)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("choose a tag for the call ids: %w", err)
	}
	s := &Server{
		script: script,
		tag:    hex.EncodeToString(random),
		addr:   listener.Addr().String(),
		done:   make(chan struct{}),
		state:  map[position]*Issued{},
	}
	for i, turn := range script {
		for j, call := range turn.Calls {
			s.state[position{i, j}] = &Issued{Call: call}
		}
	}
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		// Serve always fails in the end; a failure before Close shows as an agent without a model.
		_ = s.http.Serve(listener)
	}()
	return s, nil
}

// Close stops the server and waits until it is gone. Agents keep connections alive, so open ones are cut.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	if err != nil {
		return fmt.Errorf("stop the scripted model: %w", err)
	}
	return nil
}

// URL is the server's base URL, without a trailing slash.
func (s *Server) URL() string { return "http://" + s.addr }

// Calls is every call of the script, in its order, with what became of it so far.
func (s *Server) Calls() []Issued {
	s.mu.Lock()
	defer s.mu.Unlock()
	var calls []Issued
	for i, turn := range s.script {
		for j := range turn.Calls {
			calls = append(calls, *s.state[position{i, j}])
		}
	}
	return calls
}

// Requests is one line per request so far: method, path and what was made of it.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// handler routes by the path's end, since agents put their own prefixes before it. What an agent asks
// beside the conversation gets an answer with which it carries on.
func (s *Server) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			s.note(r, "unreadable body: "+err.Error())
			writeError(w, http.StatusBadRequest, "unreadable body")
			return
		}
		post := r.Method == http.MethodPost
		switch path := r.URL.Path; {
		case post && strings.HasSuffix(path, "/responses"):
			s.note(r, s.serveResponses(w, body))
		case post && strings.HasSuffix(path, "/messages"):
			s.note(r, s.serveMessages(w, body))
		case post && strings.HasSuffix(path, "/messages/count_tokens"):
			s.note(r, "tokens counted")
			writeJSON(w, object{"input_tokens": 1000})
		case post && (strings.HasSuffix(path, "/v1/logs") || strings.HasSuffix(path, "/v1/traces") || strings.HasSuffix(path, "/v1/metrics")):
			// An empty body is a whole answer in OTLP's binary encoding, and none in its JSON one.
			s.note(r, "telemetry dropped")
			if contentType := r.Header.Get("Content-Type"); contentType == "application/json" {
				writeJSON(w, object{})
			} else {
				w.Header().Set("Content-Type", contentType)
			}
		case strings.HasSuffix(path, "/models"):
			s.note(r, "no models listed")
			writeJSON(w, object{"object": "list", "data": []any{}, "models": []any{}, "has_more": false})
		default:
			s.note(r, "not found")
			writeError(w, http.StatusNotFound, "no such thing here")
		}
	})
}

// next takes in the results that a request carries and says which turn it asks for: the one after the
// last turn with a result. So a request that an agent repeats gets the same answer again. Without a
// shell tool on offer the request is not the conversation but some side job, such as naming it.
func (s *Server) next(results []result, shellOffered bool) (int, Turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !shellOffered {
		return -1, Turn{Text: "ok"}
	}
	turn := 0
	for _, res := range results {
		for at, issued := range s.state {
			if issued.ID != "" && issued.ID == res.id {
				issued.Answered, issued.Output = true, res.output
				turn = max(turn, at.turn+1)
			}
		}
	}
	return turn, s.script[turn]
}

// issue gives a call its id, the same each time it is asked.
func (s *Server) issue(prefix string, turn, call int) string {
	id := fmt.Sprintf("%s_%s%02d%02d", prefix, s.tag, turn, call)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state[position{turn, call}].ID = id
	return id
}

func (s *Server) note(r *http.Request, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path+": "+what)
}

// result is the outcome of a tool call as the agent reports it.
type result struct{ id, output string }

// object is a JSON object that is written, never read.
type object map[string]any

// pickTool finds the first of the wanted tools that is on offer, "" when none is.
func pickTool(offered []string, wanted ...string) string {
	for _, name := range wanted {
		if slices.Contains(offered, name) {
			return name
		}
	}
	return ""
}

// flatten turns a tool result, a string or a list of text parts in both APIs, into text.
func flatten(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) == nil {
		var b strings.Builder
		for _, part := range parts {
			b.WriteString(part.Text)
		}
		return b.String()
	}
	return string(raw)
}

// stream writes server-sent events.
type stream struct {
	w   http.ResponseWriter
	out *http.ResponseController
}

func newStream(w http.ResponseWriter) stream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	return stream{w, http.NewResponseController(w)}
}

// send writes one event, whose data repeats its name as "type" in both APIs. A write fails only when
// the agent has gone, and then there is no one left to tell.
func (s stream) send(name string, data object) {
	data["type"] = name
	_, _ = fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", name, encode(data))
	_ = s.out.Flush()
}

// encode cannot fail: it is given maps, slices, strings and numbers only.
func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("model: encode: " + err.Error())
	}
	return string(b)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, encode(v))
}

func writeError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, encode(object{"type": "error", "error": object{"type": "invalid_request_error", "message": message}}))
}

// Listen makes a listener on a free port of the IPv4 loopback, in the network namespace of the calling thread.
func Listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	return listener, nil
}
