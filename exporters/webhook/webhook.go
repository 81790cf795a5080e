// SPDX-License-Identifier: Apache-2.0

// Package webhook posts findings to whatever takes JSON over HTTP: a chat, a ticket system, a function.
//
// The document is made by a template. Texts of the sandbox get into it escaped or not at all: a template
// that does not escape is refused when the exporter is opened, and again for every document. A receiver that
// is flooded tells nobody anything, so each severity has a rate of its own beyond which findings are held
// back, and the next one that is told says how many were.
//
// It owns templates, signatures and rates. It must not decide what is a finding, and waits for the receiver
// in the caller's goroutine: what waits is in the journal (Destination), or without one in a queue of the pipeline's.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"text/template"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/web"
)

// Settings is what the program passes, as opposed to what people configure.
type Settings struct {
	// Resource is the program's own resource attributes; host.name goes into documents.
	Resource []event.Attribute
	// Logger takes what goes wrong besides what is returned.
	Logger *slog.Logger
	// RuleTitle is what the rule of that id finds; "" when it is not known, nil when none is.
	RuleTitle func(rule string) string
	// CanaryInterval is how often a canary is made; 0 never.
	CanaryInterval time.Duration
}

// The headers of a signed request: see sign.
const (
	signatureHeader = "X-Watchglass-Signature"
	timestampHeader = "X-Watchglass-Timestamp"
	deliveryHeader  = "X-Watchglass-Delivery"
)

// Exporter implements collector.Exporter.
type Exporter struct {
	cfg      Config
	min      event.Severity
	client   *web.Client
	template *template.Template
	host     string
	address  string
	log      *slog.Logger
	settings Settings
	// now is the clock, which tests replace.
	now func() time.Time

	mu         sync.Mutex
	buckets    map[event.Severity]*bucket
	suppressed uint64 // since the last notification
	stats      event.NotifierStats
}

// Open prepares an exporter. It does not connect.
func Open(cfg Config, s Settings) (*Exporter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("webhook %s: %w", cfg.Name, err)
	}
	cfg = cfg.withDefaults()
	e := &Exporter{cfg: cfg, log: s.Logger, settings: s, now: time.Now, buckets: map[event.Severity]*bucket{}}
	e.stats.Output, e.stats.Tells = e.Name(), true
	for _, a := range s.Resource {
		if a.Key == event.HostName {
			e.host = a.Value.AsString()
		}
	}
	err := e.open()
	if err != nil {
		return nil, fmt.Errorf("webhook %s: %w", cfg.Name, err)
	}
	return e, nil
}

func (e *Exporter) open() error {
	var err error
	if e.min, err = event.ParseFindingSeverity(e.cfg.MinSeverity); err != nil {
		return err
	}
	if e.template, err = parseTemplate(e.cfg); err != nil {
		return err
	}
	e.address = e.cfg.URL
	if e.cfg.URLFile != "" {
		if e.address, err = web.ReadSecret(e.cfg.URLFile); err != nil {
			return fmt.Errorf("read url_file: %w", err)
		}
		if err := web.ValidateURL(e.address); err != nil {
			return fmt.Errorf("url_file: the URL in it %w", err)
		}
	}
	if e.cfg.HMACSecretFile != "" {
		if _, err := web.ReadSecret(e.cfg.HMACSecretFile); err != nil {
			return fmt.Errorf("read hmac_secret_file: %w", err)
		}
	}
	e.client, err = web.New(web.Settings{URL: e.address, Auth: e.cfg.Auth, TLS: e.cfg.TLS, Timeout: e.cfg.Timeout})
	return err
}

// Name implements collector.Exporter.
func (e *Exporter) Name() string { return "webhook/" + e.cfg.Name }

// Accepts says whether an event is one that this exporter is for.
func (e *Exporter) Accepts(ev *event.Event) bool {
	f, ok := ev.Payload.(*event.Finding)
	return ok && (f.Canary() || f.Severity() >= e.min && (e.cfg.Updates || f.State != event.FindingUpdate))
}

// UndeliveredError says how many findings of a batch were not taken, and why the last was not.
type UndeliveredError struct {
	err error
	n   int
}

// Error implements error.
func (u *UndeliveredError) Error() string { return u.err.Error() }

// Unwrap is the cause.
func (u *UndeliveredError) Unwrap() error { return u.err }

// Undelivered is how many findings are meant.
func (u *UndeliveredError) Undelivered() int { return u.n }

// Export posts the findings of the batch, one after the other, and tries each again until it is taken or given up.
func (e *Exporter) Export(ctx context.Context, batch []*event.Event) error {
	var last error
	failed := 0
	for _, ev := range batch {
		f, ok := ev.Payload.(*event.Finding)
		if !ok || !e.Accepts(ev) || !e.admit(f) {
			continue
		}
		if err := e.tell(ctx, ev, f); err != nil {
			last = err
			failed++
		}
	}
	if last != nil {
		return &UndeliveredError{err: last, n: failed}
	}
	return nil
}

// admit takes a finding into account, and says whether the rate of its severity lets it through.
func (e *Exporter) admit(f *event.Finding) bool {
	if f.Canary() {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.buckets[f.Severity()]
	if b == nil { // the severities of findings are five
		b = &bucket{tokens: float64(e.cfg.MaxPerMinute), at: e.now()}
		e.buckets[f.Severity()] = b
	}
	if b.take(float64(e.cfg.MaxPerMinute), e.now()) {
		return true
	}
	e.suppressed++
	e.stats.Suppressed++
	return false
}

// bucket lets so many through a minute, and as many at once.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) take(perMinute float64, now time.Time) bool {
	b.tokens = min(perMinute, b.tokens+max(0, now.Sub(b.at).Minutes())*perMinute)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (e *Exporter) tell(ctx context.Context, ev *event.Event, f *event.Finding) error {
	document := e.document(ev, f)
	err := e.post(ctx, document)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.stats.Failed++
		e.stats.Lost++
		return fmt.Errorf("tell webhook %s of finding %s: %w", e.cfg.Name, f.ID, err)
	}
	e.told(document)
	return nil
}

// document is a finding as templates see it, with how many were held back before it.
func (e *Exporter) document(ev *event.Event, f *event.Finding) *Finding {
	d := e.newFinding(ev, f)
	e.mu.Lock()
	defer e.mu.Unlock()
	d.Suppressed = e.suppressed
	return d
}

// told takes note of what was taken. The caller holds mu.
func (e *Exporter) told(d *Finding) {
	e.stats.Delivered++
	e.suppressed -= d.Suppressed
	if d.Canary {
		e.stats.Canary = e.now().Unix()
	}
}

func (e *Exporter) post(ctx context.Context, document *Finding) error {
	body, err := render(e.template, e.cfg, document)
	if err != nil {
		return err
	}
	header, err := e.header(document, body)
	if err != nil {
		return err
	}
	return e.client.Deliver(ctx, body, header, e.cfg.Retry)
}

func (e *Exporter) header(document *Finding, body []byte) (http.Header, error) {
	header := http.Header{"Content-Type": {e.cfg.ContentType}, deliveryHeader: {document.UID}}
	if e.cfg.HMACSecretFile == "" {
		return header, nil
	}
	secret, err := web.ReadSecret(e.cfg.HMACSecretFile)
	if err != nil {
		return nil, fmt.Errorf("read hmac_secret_file: %w", err)
	}
	timestamp := strconv.FormatInt(e.now().Unix(), 10)
	header.Set(timestampHeader, timestamp)
	header.Set(signatureHeader, sign(secret, timestamp, body))
	return header, nil
}

// sign is "sha256=" and the hexadecimal HMAC-SHA-256 of the timestamp, a dot and the body. A receiver that
// compares it, and refuses old timestamps, knows who sent what, and that it is not replayed.
func sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte(timestamp + "."))
	_, _ = mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// Shutdown implements collector.Exporter.
func (e *Exporter) Shutdown(context.Context) error {
	e.client.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.suppressed > 0 {
		e.log.Warn("findings were held back at the end, and nobody was told how many", "webhook", e.cfg.Name, "findings", e.suppressed)
	}
	return nil
}

// Notifiers is the receiver's state.
func (e *Exporter) Notifiers() []event.NotifierStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return []event.NotifierStats{e.stats}
}
