// SPDX-License-Identifier: Apache-2.0

package alertmanager

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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

// fakeAlertmanager keeps what it is told, and answers as it is bidden.
type fakeAlertmanager struct {
	*httptest.Server
	mu       sync.Mutex
	requests [][]document
	headers  []http.Header
	answer   func(list []document) int
	hold     chan struct{}
}

func newFake(t *testing.T) *fakeAlertmanager {
	t.Helper()
	f := &fakeAlertmanager{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var list []document
		if r.Method != http.MethodPost || r.URL.Path != "/api/v2/alerts" || json.NewDecoder(r.Body).Decode(&list) != nil {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		f.mu.Lock()
		hold, code := f.hold, http.StatusOK
		if f.answer != nil {
			code = f.answer(list)
		}
		if code == http.StatusOK {
			f.requests = append(f.requests, list)
		}
		f.headers = append(f.headers, r.Header)
		f.mu.Unlock()
		if hold != nil {
			<-hold
		}
		if code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeAlertmanager) told() (list []document) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		list = append(list, r...)
	}
	return list
}

func (f *fakeAlertmanager) bid(answer func([]document) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !check(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come true", what)
		}
	}
}

func config(urls ...string) Config {
	cfg := DefaultConfig()
	cfg.URLs = urls
	return cfg
}

func openTest(t *testing.T, cfg Config) *Exporter {
	t.Helper()
	e, err := open(cfg, Settings{Resource: sample.Resource(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-e.stopping:
		default:
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			_ = e.Shutdown(ctx)
		}
	})
	return e
}

func finding(id string, level event.Severity) *event.Event {
	return &event.Event{Time: time.Now(), Sandbox: sample.Sandbox(), Process: sample.Process(), Payload: &event.Finding{
		ID: id, Rule: sample.Rule(), Level: level, State: event.FindingNew, Title: "t " + id, Count: 1,
	}}
}

func export(t *testing.T, e *Exporter, events ...*event.Event) {
	t.Helper()
	start := time.Now()
	if err := e.Export(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("Export took %v: it must not wait for anybody", took)
	}
}

func TestAlert(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	cfg := config(am.URL + "/")
	cfg.Labels = map[string]string{"cluster": "eu-1", "severity": "mine"} // ours wins: it is what people route by
	e := openTest(t, cfg)
	events := sample.Events()
	hostile := *events[10].Payload.(*event.Finding)
	hostile.ID, hostile.Title = "f-2", "\x1b]0;x\x07 \xff\u202e<b>"+strings.Repeat("é", 5000)
	events = append(events, &event.Event{Sandbox: &event.Sandbox{ID: "b", Name: "n\n\xff"}, Payload: &hostile})
	export(t, e, events...)
	eventually(t, "two alerts", func() bool { return len(am.told()) == 2 })
	got := map[string]document{}
	for _, d := range am.told() {
		got[d.Labels["finding"]] = d
	}
	d := got["f-1"]
	if diff := cmp.Diff(map[string]string{
		"alertname": "WatchglassFinding", "severity": "high", "rule": "secret-read", "finding": "f-1", "sandbox": "5a5d0b17c0de0001",
		"sandbox_name": "fix-the-parser", "agent": "codex", "session": "0199-session", "host": "build-7", "cluster": "eu-1",
	}, d.Labels); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{
		"summary": "bash read /home/dev/.ssh/id_ed25519", "description": "bash[4242] read a private key.",
		"objects": "/home/dev/.ssh/id_ed25519", "evidence": "inst-6", "attack": "T1552.001", "owasp_agentic": "ASI03", "count": "1",
		"process": "bash[4242] /usr/bin/bash", "process_uid": "00000000000000a1", "tool_call": "call_7",
		"user_id": "1000", "process_chain": "codex → bash", "prompt": `fix the \x1b[31mtest`, "command": "cat ~/.ssh/id_ed25519",
		"approval_state": "granted user", "confidence": "high", "check_next": "Look at what was sent <afterwards>. Rotate the secret.",
		"runbook_url": "https://github.com/watchglass/watchglass/blob/main/detectors/secret-read.md",
	}, d.Annotations); diff != "" {
		t.Error(diff)
	}
	if life := d.EndsAt.Sub(d.StartsAt); life < 4*time.Minute || life > 5*time.Minute {
		t.Errorf("an active alert that lives %v", life)
	}
	d = got["f-2"]
	if s := d.Annotations["summary"]; !strings.HasPrefix(s, `\x1b]0;x\x07 \xff\u{202e}<b>éé`) || len(s) > maxAnnotation+4 {
		t.Errorf("hostile text: %q", s)
	}
	if d.Labels["sandbox_name"] != `n\n\xff` || d.Labels["session"] != "" {
		t.Errorf("labels %v", d.Labels)
	}
}

func TestMinimumSeverityAndCanary(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	cfg := config(am.URL)
	cfg.MinSeverity = "high"
	e := openTest(t, cfg)
	canary := &event.Event{Payload: &event.Finding{ID: "c", Rule: event.CanaryRule(), State: event.FindingNew, Title: "canary", Count: 1}}
	export(t, e, finding("low", event.SeverityMedium), finding("high", event.SeverityHigh), canary)
	eventually(t, "two alerts", func() bool { return len(am.told()) == 2 })
	for _, d := range am.told() {
		if d.Labels["finding"] == "low" || d.Labels["rule"] == event.CanaryRuleID && d.Labels["alertname"] != "WatchglassCanary" {
			t.Errorf("%v", d.Labels)
		}
	}
	eventually(t, "the canary's time", func() bool { return time.Since(time.Unix(e.Notifiers()[0].Canary, 0)) < time.Minute })
	// The next one is told at once, not with the next refresh.
	export(t, e, canary)
	eventually(t, "the next canary", func() bool { return len(am.told()) == 3 })
}

// TestLife: an alert is told again until its time is over, then its end is told; and a finding that is
// resolved ends at once.
func TestLife(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	cfg := config(am.URL)
	// Time for the three refreshes that are asked for, on the busiest machine.
	cfg.RefreshInterval, cfg.ActiveFor = 20*time.Millisecond, 2*time.Second
	e := openTest(t, cfg)
	export(t, e, finding("a", event.SeverityHigh))
	ended := func(d document) bool { return !d.EndsAt.After(time.Now()) }
	var told []document
	eventually(t, "the end", func() bool {
		told = am.told()
		if len(told) == 0 || e.Notifiers()[0].Pending != 0 {
			return false
		}
		// An alert that is active has an end too, a few refreshes away: that may be over before this looks.
		last := told[len(told)-1]
		return ended(last) && last.EndsAt.Sub(last.StartsAt) >= cfg.ActiveFor
	})
	if len(told) < 4 || !told[0].StartsAt.Equal(told[len(told)-1].StartsAt) {
		t.Errorf("told %d times: %v", len(told), told)
	}
	eventually(t, "forgotten", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.alerts) == 0 && len(e.receivers[0].known) == 0
	})

	cfg.ActiveFor, cfg.RefreshInterval = time.Hour, time.Minute
	e = openTest(t, cfg)
	n := len(am.told())
	export(t, e, finding("b", event.SeverityHigh))
	eventually(t, "told", func() bool { return len(am.told()) == n+1 && e.Notifiers()[0].Pending == 0 })
	resolved := finding("b", event.SeverityHigh)
	resolved.Payload.(*event.Finding).State = event.FindingResolved
	export(t, e, resolved)
	eventually(t, "resolved", func() bool { told := am.told(); return len(told) == n+2 && ended(told[n+1]) })
	// What comes back is a new alert of the same labels.
	export(t, e, finding("b", event.SeverityHigh))
	eventually(t, "back", func() bool { told := am.told(); return len(told) == n+3 && !ended(told[n+2]) })
}

// TestAway: an Alertmanager that is away, or stalls, holds nobody up, is told when it is back, and until
// then nothing ends that nobody knows.
func TestAway(t *testing.T) {
	t.Parallel()
	here, away := newFake(t), newFake(t)
	away.bid(func([]document) int { return http.StatusServiceUnavailable })
	stalled := newFake(t)
	stalled.hold = make(chan struct{})
	t.Cleanup(func() { close(stalled.hold) })
	cfg := config(here.URL, away.URL, stalled.URL)
	cfg.Timeout = 50 * time.Millisecond
	e := openTest(t, cfg)
	export(t, e, finding("a", event.SeverityHigh))
	eventually(t, "one is told", func() bool { return len(here.told()) == 1 })
	eventually(t, "a failure is counted", func() bool { s := e.Notifiers(); return s[1].Failed > 0 && s[1].Pending == 1 && s[2].Failed > 0 })
	away.bid(nil)
	eventually(t, "the other is told", func() bool { return len(away.told()) == 1 })
	if e.Lost() != 0 {
		t.Errorf("%d lost", e.Lost())
	}
}

func TestNobodyKnowsYet(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	am.bid(func([]document) int { return http.StatusInternalServerError })
	cfg := config(am.URL)
	cfg.RefreshInterval, cfg.ActiveFor = 5*time.Millisecond, 10*time.Millisecond
	e := openTest(t, cfg)
	export(t, e, finding("a", event.SeverityHigh))
	resolved := finding("a", event.SeverityHigh)
	resolved.Payload.(*event.Finding).State = event.FindingResolved
	export(t, e, resolved)
	time.Sleep(100 * time.Millisecond) // its time is long over
	am.bid(nil)
	eventually(t, "told all the same", func() bool { told := am.told(); return len(told) > 0 && told[0].EndsAt.After(told[0].StartsAt) })
}

// TestSpoiledBatch: an alert that is refused does not take the others along.
func TestSpoiledBatch(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	am.bid(func(list []document) int {
		for _, d := range list {
			if d.Labels["finding"] == "bad" {
				return http.StatusBadRequest
			}
		}
		return http.StatusOK
	})
	cfg := config(am.URL)
	cfg.RefreshInterval, cfg.ActiveFor = 20*time.Millisecond, 50*time.Millisecond
	e := openTest(t, cfg)
	export(t, e, finding("a", event.SeverityHigh), finding("bad", event.SeverityHigh), finding("b", event.SeverityHigh))
	eventually(t, "the good ones", func() bool { return len(am.told()) >= 2 && e.Notifiers()[0].Pending == 0 })
	eventually(t, "all forgotten, the bad one too", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.alerts) == 0 })
	if e.Lost() != 1 {
		t.Errorf("%d lost, want the bad one", e.Lost())
	}
}

// TestFull: the table is bounded, what nobody knows yet goes last, and that is counted.
func TestFull(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	cfg := config(am.URL)
	cfg.MaxAlerts = 4
	e := openTest(t, cfg)
	export(t, e, finding("known-high", event.SeverityCritical), finding("known", event.SeverityHigh))
	eventually(t, "two are told", func() bool { return len(am.told()) == 2 && e.Notifiers()[0].Pending == 0 })
	am.bid(func([]document) int { return http.StatusServiceUnavailable })
	for i := range 3 {
		export(t, e, finding(fmt.Sprint("m", i), event.SeverityMedium))
	}
	if e.Lost() != 0 {
		t.Errorf("%d lost while there were known ones", e.Lost())
	}
	export(t, e, finding("c", event.SeverityCritical), finding("d", event.SeverityHigh))
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.alerts) != 4 || e.alerts["c"] == nil || e.alerts["d"] == nil || e.lost != 1 {
		t.Errorf("%d alerts, %d lost", len(e.alerts), e.lost)
	}
}

// TestShutdown: what was not told yet is told at the end, or said to be lost.
func TestShutdown(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	fails := 2
	am.bid(func([]document) int {
		if fails--; fails >= 0 {
			return http.StatusBadGateway
		}
		return http.StatusOK
	})
	e := openTest(t, config(am.URL))
	var events []*event.Event
	for i := range 3 * batchSize {
		events = append(events, finding(fmt.Sprint(i), event.SeverityHigh))
	}
	export(t, e, events...)
	if err := e.Shutdown(t.Context()); err != nil || len(am.told()) != len(events) {
		t.Errorf("%v, %d of %d told", err, len(am.told()), len(events))
	}
	am.bid(func([]document) int { return http.StatusBadGateway })
	e = openTest(t, config(am.URL))
	export(t, e, finding("x", event.SeverityHigh))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Shutdown(ctx); err == nil || e.Lost() != 1 {
		t.Errorf("%v, %d lost", err, e.Lost())
	}
}

// TestClockSetBack: an alert never ends before it starts.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	e := openTest(t, config("http://127.0.0.1:1"))
	now := time.Now()
	d := e.document(&alert{started: now}, now.Add(-time.Hour))
	if d.EndsAt.Before(d.StartsAt) {
		t.Errorf("from %v to %v", d.StartsAt, d.EndsAt)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, auth := range map[string]web.Auth{
		"Basic bWU6aHVudGVyMg==": {Username: "me", PasswordFile: file},
		"Bearer hunter2":         {BearerTokenFile: file},
	} {
		cfg := config(am.URL)
		cfg.Auth = auth
		e := openTest(t, cfg)
		n := len(am.told())
		export(t, e, finding("a", event.SeverityHigh))
		eventually(t, "told", func() bool { return len(am.told()) == n+1 })
		am.mu.Lock()
		if got := am.headers[len(am.headers)-1].Get("Authorization"); got != name {
			t.Errorf("authorization %q, want %q", got, name)
		}
		am.mu.Unlock()
	}
	// A message names the Alertmanager and what to do, and no credential.
	am.bid(func([]document) int { return http.StatusUnauthorized })
	cfg := config(am.URL + "/?token=s3cret")
	cfg.Auth = web.Auth{BearerTokenFile: file}
	var log bytes.Buffer
	var mu sync.Mutex
	e, err := Open(cfg, Settings{Logger: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil))})
	if err != nil {
		t.Fatal(err)
	}
	export(t, e, finding("a", event.SeverityHigh))
	eventually(t, "a complaint", func() bool { mu.Lock(); defer mu.Unlock(); return log.Len() > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_ = e.Shutdown(ctx)
	if text := log.String(); strings.Contains(text, "hunter2") || strings.Contains(text, "s3cret") ||
		!strings.Contains(text, strings.TrimPrefix(am.URL, "http://")) {
		t.Errorf("the log: %s", text)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestConfig(t *testing.T) {
	t.Parallel()
	good := config("http://127.0.0.1:9093")
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Config){
		"urls: name at least one":        func(c *Config) { c.URLs = nil },
		"urls[1]: ftp://x: must be":      func(c *Config) { c.URLs = append(c.URLs, "ftp://x") },
		"must not hold a password":       func(c *Config) { c.URLs = []string{"http://me:hunter2@x"} },
		"min_severity: \"severe\"":       func(c *Config) { c.MinSeverity = "severe" },
		"refresh_interval: must be":      func(c *Config) { c.RefreshInterval = time.Hour },
		"max_alerts: 0":                  func(c *Config) { c.MaxAlerts = 0 },
		"labels: \"a-b\"":                func(c *Config) { c.Labels = map[string]string{"a-b": ""} },
		"timeout: must be":               func(c *Config) { c.Timeout = 0 },
		"username: belongs together":     func(c *Config) { c.Username = "me" },
		"tls: cert_file and key_file be": func(c *Config) { c.TLS.CertFile = "x" },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
