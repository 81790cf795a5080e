// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/profile"
)

// LogsConfig is one destination of events.
type LogsConfig struct {
	// Name is the destination's name in cursors, metrics and logs: lower-case letters, digits, "-", "_" and ".".
	Name        string `yaml:"name"`
	Destination `yaml:",inline"`
	// Profile is the schema in whose words it gets them: otel (the default), ecs or ocsf.
	Profile string `yaml:"profile"`
	// Filter says which events it gets.
	Filter Filter `yaml:"filter"`
	// Start is where in the journal it begins when it is new: now (the default), or oldest.
	Start string `yaml:"start"`
	Retry Retry  `yaml:"retry"`
}

// The values of LogsConfig.Start.
const (
	StartNow    = "now"
	StartOldest = "oldest"
)

// LogsConfig is the configuration of the destination that logs have in c, under that name.
func (c Config) LogsConfig(name string) LogsConfig {
	return LogsConfig{Name: name, Destination: c.logs(), Profile: c.Profile, Filter: c.Filter, Start: c.Start, Retry: c.Retry}
}

// WithDefaults is the configuration with the defaults for what it leaves open.
func (c LogsConfig) WithDefaults() LogsConfig {
	base := DefaultConfig()
	if c.Protocol == "" {
		c.Protocol = base.Protocol
	}
	if c.Compression == "" {
		c.Compression = base.Compression
	}
	if c.Timeout == 0 {
		c.Timeout = base.Timeout
	}
	if c.Profile == "" {
		c.Profile = profile.OTel
	}
	if c.Start == "" {
		c.Start = base.Start
	}
	if c.Retry == (Retry{}) {
		c.Retry = base.Retry
	}
	return c
}

// Validate says everything that is wrong with the configuration, or nil.
func (c LogsConfig) Validate() error {
	var errs []error
	if !validName(c.Name) {
		errs = append(errs, fmt.Errorf("name: %q must be 1 to 64 of a-z, 0-9, \"-\", \"_\" and \".\", a letter or digit first", c.Name))
	}
	return errors.Join(append(errs, c.validate(""), validateChoice(c.Profile, c.Filter, c.Start), c.Retry.validate())...)
}

// validateChoice says what is wrong with which events are sent, and in whose words.
func validateChoice(name string, filter Filter, start string) error {
	var errs []error
	if name != "" && !slices.Contains(profile.Names(), name) {
		errs = append(errs, fmt.Errorf("profile: %q is none of %s", name, strings.Join(profile.Names(), ", ")))
	}
	if start != "" && start != StartNow && start != StartOldest {
		errs = append(errs, fmt.Errorf("start: %q is neither %s nor %s", start, StartNow, StartOldest))
	}
	return errors.Join(append(errs, filter.validate())...)
}

// validName is what can be a file's name, a label and a word in a message.
func validName(name string) bool {
	const first, rest, longest = "abcdefghijklmnopqrstuvwxyz0123456789", "-_.", 64
	return name != "" && len(name) <= longest && strings.Trim(name, first+rest) == "" && strings.Contains(first, name[:1])
}

// Logs sends records, of events or (OpenSpans) spans, to one destination. Its methods are called from one goroutine.
type Logs struct {
	cfg       LogsConfig
	transport transport
	profiler  *profiler // nil for events as they are
	trouble   trouble
	assembler Assembler
	// body is the memory for requests, where the transport copies them.
	body []byte
	// limit is the most bytes of a request; it shrinks to what the destination takes.
	limit int
	// control is a record that the destination took: see delivery.works. It was taken at that time.
	control   event.Encoded
	controlAt time.Time
}

func logsSignal() signal {
	return signal{name: "logs", method: collogs.LogsService_Export_FullMethodName}
}

// OpenLogs prepares to send. It does not connect: a destination that is down at the start may come up later.
func OpenLogs(cfg LogsConfig, s Settings) (*Logs, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("destination %s: %w", cfg.Name, err)
	}
	return openRecords(logsSignal(), cfg, &s)
}

// OpenSpans prepares to send the spans that a Traces recorded where the traces of the configuration go. It does not
// connect.
//
// A request of spans has the fields of one of log records, by number and type, and so has the answer: what is refused,
// and why. Only what is in the records differs, which nobody looks into here.
func OpenSpans(cfg Config, s Settings) (*Logs, error) {
	d := LogsConfig{Name: TracesName, Destination: cfg.traces(), Retry: cfg.Retry}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("destination %s: %w", d.Name, err)
	}
	return openRecords(tracesSignal(), d, &s)
}

func openRecords(what signal, cfg LogsConfig, s *Settings) (*Logs, error) {
	t, err := newTransport(what, cfg.Destination, s)
	if err != nil {
		return nil, fmt.Errorf("destination %s: %w", cfg.Name, err)
	}
	l := &Logs{
		cfg: cfg, transport: t, profiler: newProfiler(cfg.Profile), limit: maxRequestBytes,
		trouble: trouble{log: s.Logger.With("destination", cfg.Name, "endpoint", cfg.name())},
	}
	l.assembler.foreign = l.profiler != nil
	return l, nil
}

// Name is the destination's name.
func (l *Logs) Name() string { return l.cfg.Name }

// Send delivers the batch and returns when every record of it is delivered or rejected for good. What may
// still succeed is tried until ctx ends: then the error says why it did not, and the whole batch counts as
// not delivered. What was delivered comes again in the next try; log.record.uid tells.
func (l *Logs) Send(ctx context.Context, batch []event.Encoded) ([]event.Rejection, error) {
	d := &delivery{Logs: l, probes: maxProbes}
	err := d.deliver(ctx, d.profiled(batch))
	l.trim()
	if err != nil {
		return nil, fmt.Errorf("send to %s: %w", l.cfg.name(), err)
	}
	return d.rejected, nil
}

// Shutdown closes the connection; everything is sent already.
func (l *Logs) Shutdown(context.Context) error {
	if err := l.transport.close(); err != nil {
		return fmt.Errorf("close the connection to %s: %w", l.cfg.name(), err)
	}
	return nil
}

// trim gives back the memory of a request beyond what is usual.
func (l *Logs) trim() {
	if cap(l.body) > 2*maxRequestBytes {
		l.body = nil
	}
}

// trouble tells a person when a destination does not take what it is sent, and when it does again, and not
// of every attempt in between.
type trouble struct {
	log *slog.Logger
	// since is when it began, zero when all is well; told is when a person was told last.
	since, told time.Time
	attempts    int
}

// complaintInterval is the time between two messages of the same trouble.
const complaintInterval = 30 * time.Second

func (t *trouble) failed(err *attemptError, dest *Destination) {
	now := time.Now()
	if t.since.IsZero() {
		t.since = now
	}
	t.attempts++
	if now.Sub(t.told) < complaintInterval && t.attempts > 1 {
		return
	}
	t.told = now
	t.log.Warn("events are not delivered and wait", "attempts", t.attempts, "since", t.since,
		"error", err.Error()+remedy(err, *dest))
}

func (t *trouble) over() {
	if t.since.IsZero() {
		return
	}
	t.log.Info("events are delivered again", "after", time.Since(t.since).Round(time.Millisecond), "attempts", t.attempts)
	t.since, t.attempts = time.Time{}, 0
}
