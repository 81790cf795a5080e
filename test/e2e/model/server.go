// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBody bounds a request: a whole conversation with its tool results, and room to spare.
const maxBody = 32 << 20

// Server plays one script to one agent.
type Server struct {
	scripts []Sub // the first is the main conversation's
	tag     string
	addr    string
	http    *http.Server
	done    chan struct{}

	mu       sync.Mutex
	state    map[position]*Issued
	requests []string
}

// position is a call's place in one of the scripts.
type position struct{ script, turn, call int }

// Start serves the script, and those of sub-agents, on the listener until Close. The listener decides who can reach
// the model: a socket belongs to the network namespace of the thread that made it, so the caller makes it.
func Start(listener net.Listener, script Script, subs ...Sub) (*Server, error) {
	scripts := append([]Sub{{Script: script}}, subs...)
	for _, s := range scripts {
		if err := s.Script.Validate(); err != nil {
			return nil, fmt.Errorf("start the scripted model: %w", err)
		}
	}
	random := make([]byte, 6)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("choose a tag for the call ids: %w", err)
	}
	s := &Server{
		scripts: scripts,
		tag:     hex.EncodeToString(random),
		addr:    listener.Addr().String(),
		done:    make(chan struct{}),
		state:   map[position]*Issued{},
	}
	for at, call := range s.all() {
		s.state[at] = &Issued{Call: call}
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

// Calls is every call of the script, in its order, and then those of sub-agents, with what became of each so far.
func (s *Server) Calls() []Issued {
	s.mu.Lock()
	defer s.mu.Unlock()
	var calls []Issued
	for at := range s.all() {
		calls = append(calls, *s.state[at])
	}
	return calls
}

// all is every call of every script, in order.
func (s *Server) all() iter.Seq2[position, Call] {
	return func(yield func(position, Call) bool) {
		for i, sub := range s.scripts {
			for j, turn := range sub.Script {
				for k, call := range turn.Calls {
					if !yield(position{i, j, k}, call) {
						return
					}
				}
			}
		}
	}
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
		case post && strings.HasSuffix(path, "/chat/completions"):
			s.note(r, s.serveChat(w, body))
		case post && strings.HasSuffix(path, "enerateContent"):
			s.note(r, s.serveGenerate(w, body, strings.Contains(path, ":stream")))
		case post && strings.HasSuffix(path, ":countTokens"):
			s.note(r, "tokens counted")
			writeJSON(w, object{"totalTokens": 1000})
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

// step is one answer of the model: which turn of which script.
type step struct {
	script, number int
	Turn
}

func (s step) String() string { return fmt.Sprintf("script %d turn %d", s.script, s.number) }

// next takes in the results that a request carries and says which turn it asks for: the one after the
// last turn with a result. So a request that an agent repeats gets the same answer again. Without a
// shell tool on offer the request is not the conversation but some side job, such as naming it.
// conversation is all of it as text, which tells a sub-agent's from the main one.
func (s *Server) next(results []result, shellOffered bool, conversation string) step {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !shellOffered {
		return step{number: -1, Turn: Turn{Text: "ok"}}
	}
	script := s.speaker(conversation)
	turn := 0
	for _, res := range results {
		for at, issued := range s.state {
			if issued.ID != "" && issued.ID == res.id {
				issued.Answered, issued.Output = true, res.output
				if at.script == script {
					turn = max(turn, at.turn+1)
				}
			}
		}
	}
	return step{script, turn, s.scripts[script].Script[turn]}
}

// speaker is the script of a conversation. The mark of a sub-agent is in the main conversation too, as an argument of
// the call that started the sub-agent, but there calls come before it.
func (s *Server) speaker(conversation string) int {
	for i, sub := range s.scripts {
		at := strings.Index(conversation, sub.Mark)
		if i == 0 || at < 0 {
			continue
		}
		if call := strings.Index(conversation, s.tag); call < 0 || call > at {
			return i
		}
	}
	return 0
}

// issue gives a call of a step its id, the same each time it is asked.
func (s *Server) issue(prefix string, at step, call int) string {
	id := fmt.Sprintf("%s_%s%d%02d%02d", prefix, s.tag, at.script, at.number, call)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state[position{at.script, at.number, call}].ID = id
	return id
}

// arguments are what a call gives another tool than the shell.
func (s *Server) arguments(call Call) object {
	arguments := object{}
	maps.Copy(arguments, call.Arguments)
	if call.Session != "" {
		arguments["session_id"] = s.session(call.Session)
	}
	return arguments
}

// session is the number of the program that goes on which an earlier call started, as Codex tells its model; 0 for none.
func (s *Server) session(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, issued := range s.state {
		if issued.Name == name {
			_, after, _ := strings.Cut(issued.Output, "session ID ")
			digits := after[:len(after)-len(strings.TrimLeft(after, "0123456789"))]
			number, _ := strconv.Atoi(digits)
			return number
		}
	}
	return 0
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

// toolOf is the name and the arguments of a call as an agent's tools take it; name is the shell's, and other tools are
// looked for among those on offer.
func (s *Server) toolOf(call Call, offered []string, shell string, arguments func(Call) object) (name string, args object) {
	if len(call.Tool) == 0 {
		return shell, arguments(call)
	}
	if name = pickTool(offered, call.Tool...); name == "" {
		name = call.Tool[0] // the agent will say that there is no such tool
	}
	return name, s.arguments(call)
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

// data writes an event without a name, as the other APIs have it.
func (s stream) data(text string) {
	_, _ = fmt.Fprintf(s.w, "data: %s\n\n", text)
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
