// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
	"github.com/watchglass/watchglass/exporters/internal/web"
	"github.com/watchglass/watchglass/exporters/otlp"
)

// lockedLog is a log that is read while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func openDestination(t *testing.T, cfg Config, log *lockedLog) *Destination {
	t.Helper()
	d, err := OpenDestination(cfg, Settings{
		Resource: sample.Resource(), Logger: slog.New(slog.NewTextHandler(log, nil)), CanaryInterval: time.Hour,
		RuleTitle: func(rule string) string { return "title of " + rule },
	}, otlp.Decode)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// kept is findings as the journal gives them.
func kept(events ...*event.Event) []event.Encoded {
	encoder := otlp.NewEncoder(sample.Resource())
	list := make([]event.Encoded, len(events))
	for i, e := range events {
		encoder.Encode(&list[i], e)
	}
	return list
}

func canary(at time.Time) *event.Event {
	return &event.Event{Time: at, Seq: 1, Instance: "inst", Payload: &event.Finding{
		ID: "c", Rule: event.CanaryRule(), State: event.FindingNew, Count: 1,
	}}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !check(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come true", what)
		}
	}
}

// TestSendTellsTheSame: a finding from the journal makes the document that one from memory makes.
func TestSendTellsTheSame(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	d := openDestination(t, config(r.URL), &lockedLog{})
	if d.Name() != "webhook.chat" || d.Least() != event.SeverityLow || d.BatchSize() != sendSize {
		t.Errorf("%s, %d, %d", d.Name(), d.Least(), d.BatchSize())
	}
	title := strings.ReplaceAll(hostileTitle, "\xff", "") // what is not UTF-8 is kept rewritten, with backslashes doubled
	fromMemory := finding(9, event.SeverityHigh, title)
	fromMemory.Payload.(*event.Finding).Rule.Title = "title of secret-read"
	if err := d.Export(t.Context(), []*event.Event{fromMemory}); err != nil {
		t.Fatal(err)
	}
	if rejected, err := d.Send(t.Context(), kept(finding(9, event.SeverityHigh, title))); err != nil || len(rejected) > 0 {
		t.Fatal(rejected, err)
	}
	if len(r.bodies) != 2 || r.bodies[0] != r.bodies[1] {
		t.Errorf("%q", r.bodies)
	}
}

// TestSendPersists: what the receiver does not take now is tried until it does, in order, and nothing else of the batch
// is told twice.
func TestSendPersists(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 500, 503, 429, 401, 404, 410, 301)
	cfg := config(r.URL)
	cfg.Retry.Elapsed = 0 // it bounds the attempts from memory alone
	d := openDestination(t, cfg, &lockedLog{})
	batch := kept(finding(1, event.SeverityHigh, "one"), finding(2, event.SeverityMedium, "two"), finding(3, event.SeverityInfo, "no"))
	if rejected, err := d.Send(t.Context(), batch); err != nil || len(rejected) > 0 {
		t.Fatal(rejected, err)
	}
	if len(r.bodies) != 2 || !strings.Contains(r.bodies[0], `"one"`) || !strings.Contains(r.bodies[1], `"two"`) {
		t.Errorf("%q", r.bodies)
	}
	if s := d.Notifiers()[0]; s.Delivered != 2 || s.Failed != 7 || s.Lost != 0 || s.Pending != 0 {
		t.Errorf("%+v", s)
	}
}

// TestSendEndsWithItsContext: what was not taken then comes again, with the same delivery id.
func TestSendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var ids []string
	down := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, r.Header.Get(deliveryHeader))
		if down {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(server.Close)
	batch := kept(finding(1, event.SeverityHigh, "one"))
	d := openDestination(t, config(server.URL), &lockedLog{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := d.Send(ctx, batch)
		done <- err
	}()
	eventually(t, "an attempt", func() bool { mu.Lock(); defer mu.Unlock(); return len(ids) > 0 })
	cancel()
	if err := <-done; err == nil {
		t.Error("it is taken for delivered")
	}
	mu.Lock()
	down = false
	mu.Unlock()
	if rejected, err := openDestination(t, config(server.URL), &lockedLog{}).Send(t.Context(), batch); err != nil || len(rejected) > 0 {
		t.Fatal(rejected, err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, id := range ids {
		if id != "inst-1" {
			t.Errorf("delivery %q", id)
		}
	}
}

// TestSendRejects: what is refused for what it says, or makes no document, is rejected, and the rest is told.
func TestSendRejects(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 400)
	cfg := config(r.URL)
	cfg.Template = filepath.Join(t.TempDir(), "t")
	if err := os.WriteFile(cfg.Template, []byte(`{"t": {{ json .Title }}{{ if eq .Title "big" }}, "x": {{ index .Objects 7 }}{{ end }} }`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDestination(t, cfg, &lockedLog{})
	batch := kept(finding(1, event.SeverityHigh, "refused"), finding(2, event.SeverityHigh, "big"), finding(3, event.SeverityHigh, "good"))
	batch = append(batch, event.Encoded{Kind: event.KindFinding, Record: []byte("\xff")})
	rejected, err := d.Send(t.Context(), batch)
	if err != nil || len(rejected) != 3 || rejected[0].Index != 0 || rejected[1].Index != 1 || rejected[2].Index != 3 {
		t.Fatalf("%+v, %v", rejected, err)
	}
	if !strings.Contains(rejected[0].Reason, "HTTP 400") || !strings.Contains(rejected[1].Reason, "index out of range") {
		t.Errorf("%+v", rejected)
	}
	if len(r.bodies) != 1 || d.Notifiers()[0].Lost != 3 {
		t.Errorf("%q, %+v", r.bodies, d.Notifiers())
	}
}

// TestFiveMegabytes: a finding of any size makes a document of a size that people read.
func TestFiveMegabytes(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	d := openDestination(t, config(r.URL), &lockedLog{})
	if rejected, err := d.Send(t.Context(), kept(finding(1, event.SeverityHigh, strings.Repeat("\x1b", 5<<20)))); err != nil || len(rejected) > 0 {
		t.Fatal(rejected, err)
	}
	if len(r.bodies) != 1 || len(r.bodies[0]) > 8<<10 {
		t.Errorf("%d documents", len(r.bodies))
	}
}

// TestStaleCanaries: who was away is not told of all the canaries of that time.
func TestStaleCanaries(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	d := openDestination(t, config(r.URL), &lockedLog{})
	batch := kept(canary(time.Now().Add(-3*time.Hour)), canary(time.Now().Add(-2*time.Hour-time.Minute)), canary(time.Now().Add(-time.Hour)))
	if rejected, err := d.Send(t.Context(), batch); err != nil || len(rejected) > 0 {
		t.Fatal(rejected, err)
	}
	if len(r.bodies) != 1 {
		t.Errorf("%d canaries", len(r.bodies))
	}
}

// TestComplaints: each message names the webhook and where it is, says what to do, and shows no secret.
func TestComplaints(t *testing.T) {
	t.Parallel()
	expired := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(expired.Close)
	plain := newReceiver(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, c := range map[string]struct{ url, remedy string }{
		"credentials": {newReceiver(t, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401).URL, "check the credentials"},
		"authority":   {expired.URL, "set tls.ca_file"},
		"no TLS":      {strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
		"nobody":      {gone.URL, "nothing listens there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &lockedLog{}
			cfg := config(c.url + "/hook?token=s3cret")
			cfg.Retry = web.Retry{Initial: 50 * time.Millisecond, Max: 50 * time.Millisecond}
			d := openDestination(t, cfg, log)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = d.Send(ctx, kept(finding(1, event.SeverityHigh, "t")))
			}()
			eventually(t, "a complaint", func() bool { return log.String() != "" })
			cancel()
			<-done
			text := log.String()
			if !strings.Contains(text, "webhook=chat") || !strings.Contains(text, c.remedy) || strings.Contains(text, "s3cret") ||
				!strings.Contains(text, web.Name(c.url)) {
				t.Errorf("%s", text)
			}
		})
	}
}

// FuzzDestination: no bytes in the place of a finding make anything but a document, or nothing.
func FuzzDestination(f *testing.F) {
	good := kept(finding(1, event.SeverityHigh, hostileTitle))[0]
	f.Add(good.Record, good.Resource)
	f.Add(good.Record[:len(good.Record)/2], good.Resource)
	f.Add([]byte{}, []byte{})
	d, err := OpenDestination(config("http://127.0.0.1:1"), Settings{Logger: slog.New(slog.DiscardHandler)}, otlp.Decode)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, record, resource []byte) {
		recorded, err := d.decode(&event.Encoded{Kind: event.KindFinding, Record: record, Resource: resource})
		if err != nil {
			return
		}
		ev, ok := recorded.Finding()
		if !ok {
			return
		}
		body, err := render(d.template, d.cfg, d.newFinding(ev, ev.Payload.(*event.Finding)))
		if err == nil && !json.Valid(body) {
			t.Errorf("%s", body)
		}
	})
}
