// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/json"
	"github.com/watchglass/watchglass/exporters/otlp"
	"github.com/watchglass/watchglass/exporters/text"
)

// journalFlags is which journal is meant.
type journalFlags struct{ config, dir string }

func (f *journalFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", "", "read where the journal is from this `file`")
	cmd.Flags().StringVar(&f.dir, "journal", "", "read the journal in this `folder`")
}

// where is the journal's folder.
func (f *journalFlags) where() (string, error) {
	if f.dir != "" {
		return f.dir, nil
	}
	cfg, err := loadConfig(f.config)
	if err != nil {
		return "", err
	}
	return cfg.Journal.Dir, nil
}

// eventsOptions is the flags of `watchglass events`.
type eventsOptions struct {
	journalFlags
	since, until, session, sandbox, severity string
	kinds                                    []string
	follow, json                             bool
}

func newEvents() *cobra.Command {
	o := &eventsOptions{}
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Look events up in the journal, while the daemon runs or not",
		Long: `Look events up in the journal, in the order in which they were made, while the
daemon runs or not. All are shown that fulfil every condition.`,
		Example: `  watchglass events --since 1h --kind finding
  watchglass events --session 0199f7c2 --kind 'process.*' --kind file.open
  watchglass events --follow --min-severity medium
  watchglass events --json --since 2026-03-14T15:00:00Z | jq .attributes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout(), os.Stderr) },
	}
	o.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.since, "since", "", "show what happened since this `time`: 15m, 2h, or 2026-03-14T15:09:26Z")
	flags.StringVar(&o.until, "until", "", "show what happened until this `time`, in the same forms")
	flags.StringVar(&o.session, "session", "", "show events of the agent's session with this `id`")
	flags.StringVar(&o.sandbox, "sandbox", "", "show events of the sandbox with this `id`")
	flags.StringArrayVar(&o.kinds, "kind", nil, "show events of this `kind`, such as finding or process.*; may be given again")
	flags.StringVar(&o.severity, "min-severity", "", "show events of at least this `severity`: debug, info, low, medium, high or critical")
	flags.BoolVarP(&o.follow, "follow", "f", false, "go on with what comes, until interrupted")
	flags.BoolVar(&o.json, "json", false, "print JSON lines instead of the timeline")
	return cmd
}

// followInterval is how often the journal is looked at for more.
const followInterval = 200 * time.Millisecond

func (o *eventsOptions) run(ctx context.Context, out, trouble io.Writer) error {
	query, err := o.query(time.Now())
	if err != nil {
		return err
	}
	dir, err := o.where()
	if err != nil {
		return err
	}
	reader, err := journal.OpenReader(dir, query)
	if err != nil {
		return err
	}
	defer reader.Close()
	lines, err := o.lines()
	if err != nil {
		return err
	}
	err = show(ctx, reader, o.follow, &printer{w: out, lines: lines})
	if n := reader.Damaged(); n > 0 {
		_, _ = fmt.Fprintf(trouble, "watchglass: %d events of the journal could not be read back; watchglass verify says where it is damaged\n", n)
	}
	return err
}

// lineWriter is a form in which events are written.
type lineWriter interface {
	Append(dst []byte, r *exporters.Recorded) []byte
}

// lines is how events are written.
func (o *eventsOptions) lines() (lineWriter, error) {
	if o.json {
		return &json.Lines{}, nil
	}
	cfg := terminalText()
	cfg.Sandbox = true
	return text.NewLines(cfg)
}

// printer gathers lines and writes them.
type printer struct {
	w     io.Writer
	lines lineWriter
	buf   []byte
}

func (p *printer) add(e *event.Encoded) error {
	r, err := otlp.Decode(e)
	if err != nil {
		return err
	}
	p.buf = p.lines.Append(p.buf, r)
	if len(p.buf) < 64<<10 {
		return nil
	}
	return p.flush()
}

func (p *printer) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	_, err := p.w.Write(p.buf)
	p.buf = p.buf[:0]
	if err != nil {
		return fmt.Errorf("write the events: %w", err)
	}
	return nil
}

// show prints what the reader has; with follow until ctx ends.
func show(ctx context.Context, reader *journal.Reader, follow bool, p *printer) error {
	for {
		e, ok, err := reader.Next()
		if err != nil {
			return errors.Join(err, p.flush())
		}
		if ok {
			if err := p.add(e); err != nil {
				return err
			}
			continue
		}
		if err := p.flush(); err != nil || !follow {
			return err
		}
		select {
		case <-time.After(followInterval):
		case <-ctx.Done():
			return nil
		}
	}
}

// query is what the flags ask for.
func (o *eventsOptions) query(now time.Time) (journal.Query, error) {
	q := journal.Query{Session: o.session, Sandbox: o.sandbox}
	var err error
	if q.Since, err = moment("--since", o.since, now); err != nil {
		return q, err
	}
	if q.Until, err = moment("--until", o.until, now); err != nil {
		return q, err
	}
	if q.MinSeverity, err = severity(o.severity); err != nil {
		return q, err
	}
	for _, pattern := range o.kinds {
		kinds, err := matchKinds(pattern)
		if err != nil {
			return q, err
		}
		q.Kinds = append(q.Kinds, kinds...)
	}
	return q, nil
}

// moment is the time that a flag means: so long ago, or at that time.
func moment(flag, value string, now time.Time) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(value); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, value, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %s: neither a duration such as 2h30m nor a time such as 2026-03-14T15:09:26Z", flag, value)
}

func severity(name string) (event.Severity, error) {
	levels := map[string]event.Severity{
		"": 0, "debug": event.SeverityDebug, "info": event.SeverityInfo, "low": event.SeverityLow,
		"medium": event.SeverityMedium, "warn": event.SeverityWarn, "high": event.SeverityHigh,
		"error": event.SeverityError, "critical": event.SeverityCritical,
	}
	level, ok := levels[strings.ToLower(name)]
	if !ok {
		return 0, fmt.Errorf("--min-severity %s: none of debug, info, low, medium, warn, high, error and critical", name)
	}
	return level, nil
}

// matchKinds is the kinds that a pattern means, with or without the prefix that all have.
func matchKinds(pattern string) ([]event.Kind, error) {
	var kinds []event.Kind
	for _, k := range event.Kinds() {
		short := strings.TrimPrefix(string(k.Kind), "watchglass.")
		whole, err := path.Match(pattern, string(k.Kind))
		part, _ := path.Match(pattern, short)
		if err != nil {
			return nil, fmt.Errorf("--kind %s: %w", pattern, err)
		}
		if whole || part {
			kinds = append(kinds, k.Kind)
		}
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("--kind %s: no event is called so; docs/telemetry.md has them all", pattern)
	}
	return kinds, nil
}
