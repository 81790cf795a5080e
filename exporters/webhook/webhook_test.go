// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
	"github.com/watchglass/watchglass/exporters/internal/web"
)

// receiver keeps what it gets and answers with the codes that it was given, then 200.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	codes  []int
	bodies []string
	heads  []http.Header
}

func newReceiver(t *testing.T, codes ...int) *receiver {
	t.Helper()
	r := &receiver{codes: codes}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.codes) > 0 {
			code := r.codes[0]
			r.codes = r.codes[1:]
			w.WriteHeader(code)
			_, _ = w.Write([]byte("no\x1b[2J"))
			return
		}
		r.bodies, r.heads = append(r.bodies, string(body)), append(r.heads, request.Header)
	}))
	t.Cleanup(r.Close)
	return r
}

func config(url string) Config {
	return Config{
		Name: "chat", URL: url, MinSeverity: "low",
		Retry: web.Retry{Initial: time.Millisecond, Max: time.Millisecond, Elapsed: 5 * time.Second},
	}
}

func openTest(t *testing.T, cfg Config) *Exporter {
	t.Helper()
	e, err := Open(cfg, Settings{Resource: sample.Resource(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func finding(seq uint64, level event.Severity, title string) *event.Event {
	return &event.Event{Time: sample.Start(), Seq: seq, Instance: "inst", Sandbox: sample.Sandbox(), Process: sample.Process(), Payload: &event.Finding{
		ID: fmt.Sprint("f-", seq), Rule: sample.Rule(), Level: level, State: event.FindingNew, Title: title, Count: 1,
	}}
}

const hostileTitle = "<!everyone> \x1b]0;x\x07 \"},{\"text\":\"owned\" \\ \xff\u202e & {{.}}"

func TestJSON(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	e := openTest(t, config(r.URL))
	if err := e.Export(t.Context(), append(sample.Events(), finding(99, event.SeverityHigh, hostileTitle))); err != nil {
		t.Fatal(err)
	}
	if len(r.bodies) != 2 {
		t.Fatalf("%d documents: %q", len(r.bodies), r.bodies)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(r.bodies[0]), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{
		"uid": "inst-11", "status": "new", "severity": "high", "rule": "secret-read", "rule_title": "A secret was read", "finding": "f-1",
		"title": "bash read /home/dev/.ssh/id_ed25519", "explanation": "bash[4242] read a private key.",
		"objects": []any{"/home/dev/.ssh/id_ed25519"}, "evidence": []any{"inst-6"}, "attack": []any{"T1552.001"}, "owasp_agentic": []any{"ASI03"},
		"count": 1.0, "time": "2026-03-14T15:09:26.635897932Z", "host": "build-7", "sandbox": "5a5d0b17c0de0001", "sandbox_name": "fix-the-parser",
		"agent": "codex", "session": "0199-session", "tool": "", "tool_call": "call_7", "approval": "", "process": "bash",
		"process_uid": "00000000000000a1", "pid": 4242.0, "executable": "/usr/bin/bash",
		"runbook_url": "https://github.com/watchglass/watchglass/blob/main/detectors/secret-read.md", "suppressed": 0.0, "canary": false,
		"user_id": 1000.0, "process_chain": []any{"codex", "bash"}, "prompt": `fix the \x1b[31mtest`, "command": "cat ~/.ssh/id_ed25519",
		"approval_state": "granted", "decider": "user", "confidence": "high",
		"check_next": []any{"Look at what was sent <afterwards>.", "Rotate the secret."},
	}, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	if err := json.Unmarshal([]byte(r.bodies[1]), &got); err != nil {
		t.Fatal(err)
	}
	if want := `<!everyone> \x1b]0;x\x07 "},{"text":"owned" \ \xff\u{202e} & {{.}}`; got["title"] != want {
		t.Errorf("hostile text: %q", got["title"])
	}
}

func TestSlack(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	cfg := config(r.URL)
	cfg.Template = TemplateSlack
	e := openTest(t, cfg)
	if err := e.Export(t.Context(), []*event.Event{finding(1, event.SeverityCritical, hostileTitle)}); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Text   string           `json:"text"`
		Blocks []map[string]any `json:"blocks"`
	}
	if err := json.Unmarshal([]byte(r.bodies[0]), &got); err != nil {
		t.Fatal(err)
	}
	if want := `[CRITICAL] &lt;!everyone&gt; \x1b]0;x\x07 "},{"text":"owned" \ \xff\u{202e} &amp; {{.}}`; got.Text != want {
		t.Errorf("%q\nwant\n%q", got.Text, want)
	}
	if strings.Contains(r.bodies[0], "<!") || len(got.Blocks) != 3 {
		t.Errorf("%s", r.bodies[0])
	}
}

// TestTemplates: one that does not escape is refused when it is opened, with what to do about it.
func TestTemplates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"text": "{{ .Title }}"}`:            "write every text with json",
		`{"text": {{ json .Titel }}}`:         "can't evaluate field Titel",
		`{"text": {{ json .Title }`:           "read the template",
		`{{ range $i := .Objects }}{{ end }}`: "write every text with json", // makes nothing
		`{"text": {{ .Title | truncate 9 | json }}, "l": {{ join ", " .Objects | json }}}`: "",
	} {
		file := filepath.Join(t.TempDir(), "x.tmpl")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := config("http://127.0.0.1:1")
		cfg.Template = file
		_, err := Open(cfg, Settings{Logger: slog.New(slog.DiscardHandler)})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSignature(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	cfg := config("")
	dir := t.TempDir()
	cfg.URLFile, cfg.HMACSecretFile = filepath.Join(dir, "url"), filepath.Join(dir, "key")
	for file, text := range map[string]string{cfg.URLFile: r.URL + "/services/T0/B0/s3cret\n", cfg.HMACSecretFile: "k3y\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := openTest(t, cfg)
	e.now = func() time.Time { return time.Unix(1700000000, 0) }
	if err := e.Export(t.Context(), []*event.Event{finding(7, event.SeverityHigh, "t")}); err != nil {
		t.Fatal(err)
	}
	h := r.heads[0]
	if h.Get("X-Watchglass-Timestamp") != "1700000000" || h.Get("X-Watchglass-Delivery") != "inst-7" ||
		h.Get("X-Watchglass-Signature") != sign("k3y", "1700000000", []byte(r.bodies[0])) {
		t.Errorf("%v", h)
	}
	// By another implementation: printf '1.{}' | openssl dgst -sha256 -hmac k
	if got := sign("k", "1", []byte("{}")); got != "sha256=3dd49b2593d0f9a349e9e71c4bde3e2b862c2be4003fe9b4ba81332029310158" {
		t.Error(got)
	}
	r.Close()
	cfg.Retry.Elapsed = time.Millisecond
	e = openTest(t, cfg)
	err := e.Export(t.Context(), []*event.Event{finding(7, event.SeverityHigh, "t")})
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a message shows the URL, which is a credential: %v", err)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 503, 429, 500)
	e := openTest(t, config(r.URL))
	if err := e.Export(t.Context(), []*event.Event{finding(1, event.SeverityHigh, "t")}); err != nil || len(r.bodies) != 1 {
		t.Errorf("after three failures: %v, %d documents", err, len(r.bodies))
	}
	r.codes = []int{404}
	err := e.Export(t.Context(), []*event.Event{finding(2, event.SeverityHigh, "t"), finding(3, event.SeverityHigh, "t")})
	var undelivered *UndeliveredError
	if !errors.As(err, &undelivered) || undelivered.Undelivered() != 1 || len(r.bodies) != 2 ||
		!strings.Contains(err.Error(), `HTTP 404 Not Found: no\x1b[2J (check the URL)`) {
		t.Errorf("refused: %v, %d documents", err, len(r.bodies))
	}
	if s := e.Notifiers()[0]; s.Delivered != 2 || s.Lost != 1 || s.Output != "webhook/chat" {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.codes = []int{503, 503, 503}
	if err := e.Export(ctx, []*event.Event{finding(4, event.SeverityHigh, "t")}); err == nil {
		t.Error("delivered after the end")
	}
}

// TestRate: each severity has a rate of its own, so that a flood of little ones does not hide a great one;
// what is held back is counted, and told with the next.
func TestRate(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	cfg := config(r.URL)
	cfg.MaxPerMinute = 3
	e := openTest(t, cfg)
	now := time.Unix(1700000000, 0)
	e.now = func() time.Time { return now }
	var batch []*event.Event
	for i := range uint64(10) {
		batch = append(batch, finding(i, event.SeverityLow, "little"))
	}
	batch = append(batch, finding(10, event.SeverityCritical, "great"))
	if err := e.Export(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if len(r.bodies) != 4 || !strings.Contains(r.bodies[3], "great") || !strings.Contains(r.bodies[3], `"suppressed": 7`) {
		t.Errorf("%d documents, the last %s", len(r.bodies), r.bodies[len(r.bodies)-1])
	}
	if err := e.Export(t.Context(), batch[:1]); err != nil || len(r.bodies) != 4 {
		t.Errorf("%v, %d documents", err, len(r.bodies))
	}
	now = now.Add(20 * time.Second) // one token
	if err := e.Export(t.Context(), batch[:2]); err != nil || len(r.bodies) != 5 || !strings.Contains(r.bodies[4], `"suppressed": 1`) {
		t.Errorf("%v, %d documents, the last %s", err, len(r.bodies), r.bodies[len(r.bodies)-1])
	}
	now = now.Add(-time.Hour) // a clock that was set back neither fills the bucket nor empties it
	canary := &event.Event{Payload: &event.Finding{ID: "c", Rule: event.CanaryRule(), State: event.FindingNew, Count: 1}}
	if err := e.Export(t.Context(), append(batch[:1:1], canary)); err != nil || len(r.bodies) != 6 || !strings.Contains(r.bodies[5], `"canary": true`) {
		t.Errorf("%v, %d documents, the last %s", err, len(r.bodies), r.bodies[len(r.bodies)-1])
	}
	if s := e.Notifiers()[0]; s.Suppressed != 10 || s.Canary != now.Unix() {
		t.Errorf("%+v", s)
	}
}

func TestAccepts(t *testing.T) {
	t.Parallel()
	cfg := config("http://127.0.0.1:1")
	cfg.MinSeverity = "high"
	update := finding(1, event.SeverityHigh, "t")
	update.Payload.(*event.Finding).State = event.FindingUpdate
	for _, updates := range []bool{false, true} {
		cfg.Updates = updates
		e := openTest(t, cfg)
		if e.Accepts(finding(1, event.SeverityMedium, "t")) || !e.Accepts(finding(1, event.SeverityHigh, "t")) ||
			e.Accepts(update) != updates || e.Accepts(&event.Event{Payload: &event.Loss{}}) {
			t.Errorf("updates %v: wrong events are accepted", updates)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"name: \"\"":                            func(c *Config) { c.Name = "" },
		"name: \"a/b\"":                         func(c *Config) { c.Name = "a/b" },
		"url: set it or url_file":               func(c *Config) { c.URL = "" },
		"url: set it or url_file, and not both": func(c *Config) { c.URLFile = "x" },
		"url: is not a URL":                     func(c *Config) { c.URL = "http://[::1/hunter2" },
		"min_severity: \"x\"":                   func(c *Config) { c.MinSeverity = "x" },
		"max_per_minute: must be":               func(c *Config) { c.MaxPerMinute = -1 },
		"timeout: must be":                      func(c *Config) { c.Timeout = -1 },
		"retry: initial":                        func(c *Config) { c.Retry.Initial = 0 },
		"bearer_token_file: cannot":             func(c *Config) { c.Username, c.PasswordFile, c.BearerTokenFile = "a", "b", "c" },
	} {
		c := config("http://127.0.0.1:1")
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	least := Config{Name: "a", URL: "https://x"}
	if err := least.Validate(); err != nil {
		t.Error(err)
	}
}

// FuzzRender: whatever a finding says, what the built-in templates make is JSON.
func FuzzRender(f *testing.F) {
	f.Add("t", "e", "/x")
	f.Add(hostileTitle, "\u2028</script>", "\x00")
	var exporters []*Exporter
	for _, name := range []string{TemplateJSON, TemplateSlack} {
		cfg := config("http://127.0.0.1:1")
		cfg.Template = name
		e, err := Open(cfg, Settings{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			f.Fatal(err)
		}
		exporters = append(exporters, e)
	}
	f.Fuzz(func(t *testing.T, title, explanation, object string) {
		ev := finding(1, event.SeverityHigh, title)
		p := ev.Payload.(*event.Finding)
		p.Explanation, p.Objects = explanation, []string{object, object}
		for _, e := range exporters {
			body, err := render(e.template, e.cfg, e.newFinding(ev, p))
			if err != nil || !json.Valid(body) {
				t.Fatalf("%v\n%s", err, body)
			}
		}
	})
}
