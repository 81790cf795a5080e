// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/peer"
	"github.com/watchglass/watchglass/event"
)

const input = `{"session_id":"s","hook_event_name":"Stop"}`

// bench is a server with what it was told.
type bench struct {
	*Server
	mu         sync.Mutex
	statements []*agent.Statement
}

func (b *bench) take(s *agent.Statement) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.statements = append(b.statements, s)
}

func serve(t *testing.T, cfg Config) *bench {
	t.Helper()
	b := &bench{}
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "agent", "hook.sock")
	}
	server, err := Open(cfg, Settings{
		Sandbox: func(uint32) uint64 { return 10 }, Claim: b.take, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Server = server
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(cfg.Path); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return b
}

func settings() Config { return Config{Mode: "0666", Rate: 1000, Burst: 1000} }

func soon() time.Time { return time.Now().Add(10 * time.Second) }

// The hook is this process, so the agent is what started the test.
func TestServe(t *testing.T) {
	b := serve(t, settings())
	if status, err := Send(b.Path(), "codex", strings.NewReader(input), soon()); err != nil || status != Taken {
		t.Fatalf("%v, %v", status, err)
	}
	if len(b.statements) != 1 {
		t.Fatalf("%d statements", len(b.statements))
	}
	s := b.statements[0]
	self, ok := peer.ReadTask(uint32(os.Getpid()))
	if !ok {
		t.Fatal("cannot read of this process")
	}
	if !s.Via.SameProcess(self.PID, self.Start) || s.Via.Sandbox != 10 {
		t.Errorf("via %+v, want this process, %+v", s.Via, self)
	}
	parent, _ := peer.ReadTask(self.Parent)
	if isWrapper(parent.Name) {
		t.Log("started by a shell, which is looked through")
	} else if s.Origin.PID != parent.PID || s.Origin.Start == 0 || s.Origin.Sandbox != 10 {
		t.Errorf("origin %+v, want the parent, %+v", s.Origin, parent)
	}
	if end, ok := s.Claim.(*event.TurnEnd); !ok || end.Agent != "codex" || end.Session != "s" {
		t.Errorf("claim %#v", s.Claim)
	}
	if got := b.Stats(); got != (Stats{Taken: 1}) {
		t.Errorf("counted %+v", got)
	}
	if info, err := os.Stat(b.Path()); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestServeWhatIsWrong(t *testing.T) {
	b := serve(t, settings())
	send := func(text string) Status {
		t.Helper()
		c, err := net.Dial("unix", b.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.UnixConn).CloseWrite()
		answer, _ := io.ReadAll(c)
		if len(answer) != 1 {
			t.Fatalf("%q: answer %q", text, answer)
		}
		return Status(answer[0])
	}
	whole := string(frame(t, "codex", input))
	for _, bad := range []string{
		"", "W", "GET / HTTP/1.1\r\n\r\n", whole[:len(whole)-1], magic + "\xff\x00\x00\x00\x01",
		magic + "\x00\xff\xff\xff\xff", magic + "\x00\x00\x01\x00\x01", string(frame(t, "codex", "{}")), string(frame(t, "", "")),
	} {
		if got := send(bad); got != Malformed {
			t.Errorf("%.20q: %v", bad, got)
		}
	}
	if got := send(string(frame(t, "", `{"session_id":"s","hook_event_name":"Notification"}`))); got != Taken {
		t.Errorf("an event that says nothing: %v", got)
	}
	if got := b.Stats(); got != (Stats{Malformed: 9, Ignored: 1}) || len(b.statements) != 0 {
		t.Errorf("counted %+v, %d statements", got, len(b.statements))
	}
}

func frame(t *testing.T, name, text string) []byte {
	t.Helper()
	b, err := (&Frame{Agent: name, Input: []byte(text)}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// One who connects and says nothing is cut off, and keeps nobody waiting meanwhile.
func TestServeTheSlow(t *testing.T) {
	b := serve(t, settings())
	slow, err := net.Dial("unix", b.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	if status, err := Send(b.Path(), "", strings.NewReader(input), soon()); err != nil || status != Taken {
		t.Fatalf("%v, %v", status, err)
	}
	if answer, _ := io.ReadAll(slow); len(answer) != 0 {
		t.Errorf("the slow one is told %q", answer)
	}
	if got := b.Stats(); got != (Stats{Taken: 1, Late: 1}) {
		t.Errorf("counted %+v", got)
	}
}

func TestServeRate(t *testing.T) {
	cfg := settings()
	cfg.Rate, cfg.Burst = 1, 3
	b := serve(t, cfg)
	var taken, refused int
	for range 10 {
		switch status, err := Send(b.Path(), "", strings.NewReader(input), soon()); {
		case err != nil:
			t.Fatal(err)
		case status == Taken:
			taken++
		case status == Refused:
			refused++
		}
	}
	if taken < 3 || taken > 5 || taken+refused != 10 {
		t.Errorf("taken %d, refused %d, want 3 at once and 1 a second", taken, refused)
	}
}

func TestLimits(t *testing.T) {
	now := time.Now()
	l := newLimits(10, 2*maxPerSandbox)
	for range maxPerSandbox {
		if !l.take(1, now) {
			t.Fatal("no room for as many as may be open")
		}
	}
	if l.take(1, now) {
		t.Error("more connections of one sandbox than may be open")
	}
	if !l.take(2, now) {
		t.Error("one sandbox takes another's room")
	}
	l.giveBack(1)
	if !l.take(1, now) {
		t.Error("what was given back is not there")
	}
	// As many sandboxes as come: those that are being served stay, the silent ones go.
	for i := range uint64(2 * maxLimits) {
		if l.take(100+i, now) {
			l.giveBack(100 + i)
		}
	}
	if len(l.buckets) > maxLimits || l.buckets[1] == nil || l.buckets[2] == nil || l.order.Len() != len(l.buckets) {
		t.Errorf("%d sandboxes are remembered, %d in order", len(l.buckets), l.order.Len())
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := serve(t, settings())
	for path, want := range map[string]string{
		filepath.Join(open, "s"):       "can be written to by others",
		file:                           "is no socket",
		b.Path():                       "another collector",
		"relative":                     "no absolute path",
		"/" + strings.Repeat("x", 200): "at most 107",
	} {
		cfg := settings()
		cfg.Path = path
		server, err := Open(cfg, Settings{})
		if err == nil {
			_ = server.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for _, mode := range []string{"", "rw", "1777", "0999"} {
		cfg := settings()
		cfg.Path, cfg.Mode = "/run/x", mode
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "mode: ") {
			t.Errorf("mode %q: %v", mode, err)
		}
	}
}

// A socket that nobody listens at any more is in nobody's way.
func TestOpenAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hook.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := settings()
	cfg.Path = path
	b := serve(t, cfg)
	if status, err := Send(b.Path(), "", strings.NewReader(input), soon()); err != nil || status != Taken {
		t.Errorf("%v, %v", status, err)
	}
}

func TestSendToNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	if _, err := Send(path, "", strings.NewReader(input), soon()); err == nil {
		t.Error("sent to nobody")
	}
	// One who listens and never answers costs no more than the deadline.
	silent, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	start := time.Now()
	if _, err := Send(path, "", strings.NewReader(input), start.Add(50*time.Millisecond)); err == nil {
		t.Error("no answer is an answer")
	}
}

func TestShorten(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	text, err := json.Marshal(map[string]any{
		"session_id": "s", "hook_event_name": "PostToolUse", "tool_use_id": "call_1", "tool_response": map[string]any{"stdout": long},
		"prompt": long, "tool_input": map[string]any{"command": "make", "content": long, "edits": []string{long}},
	})
	if err != nil {
		t.Fatal(err)
	}
	short, err := Shorten(text)
	if err != nil || len(short) > MaxInput {
		t.Fatalf("%d bytes, %v", len(short), err)
	}
	said, err := agent.HookClaim("codex", short, time.Now(), agent.HookOptions{})
	if call, ok := said.(*event.ToolCall); err != nil || !ok || call.ID != "call_1" || call.Command != "make" {
		t.Errorf("%+v, %v", said, err)
	}
	for name, bad := range map[string]string{
		"no object": strings.Repeat("x", 100_000),
		"fields":    `{` + strings.Repeat(`"`+strings.Repeat("n", 100)+`":1,`, 1) + `"a":1`,
	} {
		if _, err := Shorten([]byte(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	seed, err := (&Frame{Agent: "codex", Input: []byte(input)}).Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(magic + "\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ReadFrame(bytes.NewReader(text))
		if err != nil {
			return
		}
		again, err := got.Append(nil)
		if err != nil || !bytes.HasPrefix(text, again) {
			t.Errorf("%q is read as %q", text, again)
		}
	})
}

func FuzzShorten(f *testing.F) {
	f.Add(input, 10)
	f.Add(`{"tool_input":{"command":"x"}}`, 100_000)
	f.Fuzz(func(t *testing.T, text string, n int) {
		long := strings.Replace(text, "x", strings.Repeat("x", max(0, min(n, 100_000))), 1)
		short, err := Shorten([]byte(long))
		if err == nil && (len(short) > MaxInput || !json.Valid(short)) {
			t.Errorf("%d bytes, valid: %v", len(short), json.Valid(short))
		}
	})
}
