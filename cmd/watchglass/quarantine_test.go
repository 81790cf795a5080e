// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/otlp"
)

// keptQuarantine makes a journal with three events in its quarantine, one of which is there twice, and a line of garbage.
func keptQuarantine(t *testing.T) string {
	t.Helper()
	cfg := journal.DefaultConfig()
	cfg.Dir = filepath.Join(t.TempDir(), "journal")
	j, err := journal.Open(cfg, journal.Settings{Instance: "inst", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	rule := &event.Rule{ID: "secret-read", UUID: "u", Version: "1", Severity: event.SeverityHigh}
	encoder := otlp.NewEncoder(nil)
	for _, seq := range []uint64{1, 2, 3, 2} {
		var e event.Encoded
		encoder.Encode(&e, &event.Event{Time: time.Now(), Seq: seq, Instance: "inst", Payload: &event.Finding{
			ID: fmt.Sprint("f-", seq), Rule: rule, State: event.FindingNew, Title: fmt.Sprint("title ", seq), Count: 1,
		}})
		destination := "webhook.chat"
		if seq == 3 {
			destination = "siem"
		}
		if err := j.Quarantine(destination, "HTTP 400 \x1b[2J", &e); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(cfg.Dir, "quarantine.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("garbage\n{\"half\": "); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg.Dir
}

// commanded is what the program prints for these arguments.
func commanded(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newRoot()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestQuarantineCommand(t *testing.T) {
	dir := keptQuarantine(t)
	out, err := commanded(t, "journal", "quarantine", "--journal", dir)
	if err != nil || strings.Count(out, "\n") != 5 || !strings.Contains(out, `HTTP 400 \x1b[2J`) || !strings.Contains(out, "inst-3") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := commanded(t, "journal", "quarantine", "--journal", dir, "--destination", "siem", "--json"); err != nil || strings.Count(out, "\n") != 1 ||
		!strings.Contains(out, `"seq":3`) {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := commanded(t, "journal", "quarantine", "--journal", dir+"x"); err == nil {
		t.Error("a folder that is not there has a quarantine")
	}
}

func TestResendCommand(t *testing.T) {
	dir := keptQuarantine(t)
	var code, posts atomic.Int64
	code.Store(http.StatusBadRequest)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		posts.Add(1)
		w.WriteHeader(int(code.Load()))
	}))
	defer server.Close()
	config := filepath.Join(t.TempDir(), "c.yaml")
	text := fmt.Sprintf("journal: {dir: %s}\nexporters: {webhooks: [{name: chat, url: %s, min_severity: info, max_per_minute: 1}]}\n", dir, server.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// The destination of one is no more; the other refuses still.
	out, err := commanded(t, "journal", "resend", "--config", config)
	if err == nil || !strings.Contains(err.Error(), `no destination "siem"; there are: webhook.chat`) ||
		!strings.Contains(out, "webhook.chat: 0 taken, 2 refused again, 0 not tried") {
		t.Errorf("%v\n%s", err, out)
	}
	code.Store(http.StatusOK)
	posts.Store(0)
	out, err = commanded(t, "journal", "resend", "--config", config, "--to", "webhook.chat")
	if err != nil || posts.Load() != 3 || !strings.Contains(out, "webhook.chat: 3 taken, 0 refused again, 0 not tried") {
		t.Errorf("%v, %d posts\n%s", err, posts.Load(), out)
	}
	// What was taken is not sent a second time.
	out, err = commanded(t, "journal", "resend", "--config", config, "--to", "webhook.chat")
	if err != nil || posts.Load() != 3 || !strings.Contains(out, "Nothing is to be sent again.") {
		t.Errorf("%v, %d posts\n%s", err, posts.Load(), out)
	}
	if out, err := commanded(t, "journal", "quarantine", "--journal", dir); err != nil || strings.Contains(out, "  -  ") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := commanded(t, "journal", "resend", "--config", config, "--to", "webhook.chat", "--again", "--destination", "siem"); err != nil || posts.Load() != 4 {
		t.Errorf("%v, %d posts", err, posts.Load())
	}
	// One that is away is waited for, but not for ever.
	code.Store(http.StatusServiceUnavailable)
	out, err = commanded(t, "journal", "resend", "--config", config, "--again", "--destination", "webhook.chat", "--timeout", "50ms")
	if err == nil || !strings.Contains(err.Error(), "HTTP 503") || !strings.Contains(out, "webhook.chat: 0 taken, 0 refused again, 2 not tried") {
		t.Errorf("%v\n%s", err, out)
	}
	// Only one at a time.
	held, err := journal.OpenResent(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := commanded(t, "journal", "resend", "--config", config, "--to", "webhook.chat"); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Error(err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
}
