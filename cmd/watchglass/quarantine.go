// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/alertmanager"
	"github.com/watchglass/watchglass/exporters/otlp"
	"github.com/watchglass/watchglass/exporters/webhook"
)

// resendBatch is how many events of the quarantine are sent at once.
const resendBatch = 256

func newJournalQuarantine() *cobra.Command {
	var where journalFlags
	var destinations []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "List the events that destinations refused for good, with their reasons",
		Long: `List the events that destinations refused for good, the oldest first, with the reason
of each and whether it was sent again since. Send them again with: watchglass journal resend`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := where.where()
			if err != nil {
				return err
			}
			resent, err := journal.ReadResent(dir)
			if err != nil {
				return err
			}
			list, err := quarantined(dir, destinations)
			if err != nil {
				return err
			}
			if asJSON {
				return writeQuarantineJSON(cmd.OutOrStdout(), list)
			}
			return writeQuarantineText(cmd.OutOrStdout(), list, resent)
		},
	}
	where.add(cmd)
	cmd.Flags().StringArrayVar(&destinations, "destination", nil, "show those of the destination of this `name`; may be given again")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON objects, the events among them as OTLP in base64")
	return cmd
}

// quarantined is what is in quarantine of these destinations, of all if there are none.
func quarantined(dir string, destinations []string) ([]journal.Quarantine, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("look for the journal: %w", err)
	}
	var list []journal.Quarantine
	malformed, err := journal.ReadQuarantine(dir, func(q *journal.Quarantine) error {
		if len(destinations) == 0 || slices.Contains(destinations, q.Destination) {
			list = append(list, *q)
		}
		return nil
	})
	if malformed > 0 {
		_, _ = fmt.Fprintf(os.Stderr, "watchglass: %d lines of the quarantine cannot be read\n", malformed)
	}
	return list, err
}

func writeQuarantineJSON(w io.Writer, list []journal.Quarantine) error {
	encoder := json.NewEncoder(w)
	for i := range list {
		if err := encoder.Encode(&list[i]); err != nil {
			return fmt.Errorf("print the quarantine: %w", err)
		}
	}
	return nil
}

func writeQuarantineText(w io.Writer, list []journal.Quarantine, resent map[string]time.Time) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SINCE\tDESTINATION\tEVENT\tKIND\tSEVERITY\tSENT AGAIN\tREASON")
	for i := range list {
		q := &list[i]
		again := "-"
		if at := resent[q.Name()]; !at.IsZero() {
			again = at.UTC().Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s-%d\t%s\t%s\t%s\t%s\n", q.Time.UTC().Format(time.RFC3339), exporters.Printable(q.Destination),
			exporters.Printable(q.Instance), q.Seq, exporters.Printable(string(q.Kind)), q.Severity.Text(), again, exporters.Printable(q.Reason))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the quarantine: %w", err)
	}
	return nil
}

// resendOptions is the flags of `watchglass journal resend`.
type resendOptions struct {
	journalFlags
	destinations []string
	to           string
	again        bool
	timeout      time.Duration
}

func newJournalResend() *cobra.Command {
	o := &resendOptions{}
	cmd := &cobra.Command{
		Use:   "resend",
		Short: "Send the events that destinations refused for good once more",
		Long: `Send the events in the journal's quarantine once more, each to the destination that
refused it, as the configuration describes that now. The daemon may run meanwhile. What
is taken is not sent a second time, unless --again says so; it stays listed until newer
events need its room. The exit code is 1 when anything was not taken.`,
		Example: `  watchglass journal resend --config /etc/watchglass/config.yaml
  watchglass journal resend --config watchglass.yaml --destination siem --to lake`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	o.add(cmd)
	cmd.Flags().StringArrayVar(&o.destinations, "destination", nil, "send those that the destination of this `name` refused; may be given again")
	cmd.Flags().StringVar(&o.to, "to", "", "send them to the destination of this `name` instead")
	cmd.Flags().BoolVar(&o.again, "again", false, "send also what was taken by then")
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "how long to wait for each destination")
	return cmd
}

func (o *resendOptions) run(ctx context.Context, w io.Writer) error {
	cfg, err := loadConfig(o.config)
	if err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	dir, err := o.where()
	if err != nil {
		return err
	}
	list, err := quarantined(dir, o.destinations)
	if err != nil {
		return err
	}
	resent, err := journal.OpenResent(dir)
	if err != nil {
		return err
	}
	by := map[string][]journal.Quarantine{}
	var names []string
	waiting := map[string]bool{}
	for i := range list {
		q := list[i]
		if waiting[q.Name()] || !o.again && !resent.At(&q).IsZero() {
			continue
		}
		waiting[q.Name()] = true
		to := q.Destination
		if o.to != "" {
			to = o.to
		}
		if by[to] == nil {
			names = append(names, to)
		}
		by[to] = append(by[to], q)
	}
	slices.Sort(names)
	if len(names) == 0 {
		_, _ = fmt.Fprintln(w, "Nothing is to be sent again.")
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, o.resend(ctx, w, &resending{name: name, events: by[name], resent: resent, config: cfg}))
	}
	errs = append(errs, resent.Close())
	return errors.Join(errs...)
}

// resending is what is sent to one destination.
type resending struct {
	name   string
	events []journal.Quarantine
	resent *journal.Resent
	config *config
}

func (o *resendOptions) resend(ctx context.Context, w io.Writer, r *resending) error {
	spans := slices.ContainsFunc(r.events, func(q journal.Quarantine) bool { return q.Kind == event.KindSpan })
	events := slices.ContainsFunc(r.events, func(q journal.Quarantine) bool { return q.Kind != event.KindSpan })
	if traces := r.name == otlp.TracesName; traces && events || !traces && spans {
		return fmt.Errorf("%s cannot be sent what is in quarantine: spans go to %s alone, and nothing else does: choose with --destination", r.name, otlp.TracesName)
	}
	destination, err := r.config.destination(r.name, len(r.events))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	taken, refused, reason := 0, 0, ""
	for events := range slices.Chunk(r.events, resendBatch) {
		batch := make([]event.Encoded, 0, len(events))
		for i := range events {
			e := events[i].Event()
			if recorded, err := otlp.Decode(&e); err == nil && !spans {
				e.Time = recorded.Time
			}
			batch = append(batch, e)
		}
		var rejected []collector.Rejection
		if rejected, err = destination.Send(ctx, batch); err != nil {
			err = fmt.Errorf("send to %s again: %w", r.name, err)
			break
		}
		no := map[int]bool{}
		for _, j := range rejected {
			no[j.Index], reason = true, j.Reason
		}
		for i := range events {
			if !no[i] {
				r.resent.Note(&events[i])
			}
		}
		taken, refused = taken+len(events)-len(no), refused+len(no)
	}
	_, _ = fmt.Fprintf(w, "%s: %d taken, %d refused again, %d not tried\n", exporters.Printable(r.name), taken, refused, len(r.events)-taken-refused)
	if err == nil && refused > 0 {
		err = fmt.Errorf("%s refuses %d events still: %s", r.name, refused, exporters.Printable(reason))
	}
	return errors.Join(err, destination.Shutdown(context.WithoutCancel(ctx)))
}

// destination opens the destination of that name as the configuration describes it, for so many events.
func (c *config) destination(name string, events int) (collector.Destination, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s := &watchSettings{config: c, environment: true, log: log}
	resource := programResource("")
	list, cfg, err := s.logs()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range list {
		if d.Name == name {
			return otlp.OpenLogs(d, otlp.Settings{Resource: resource, Logger: log, Environment: os.LookupEnv})
		}
		names = append(names, d.Name)
	}
	if cfg.TracesEnabled() {
		if name == otlp.TracesName {
			return otlp.OpenSpans(cfg, otlp.Settings{Resource: resource, Logger: log, Environment: os.LookupEnv})
		}
		names = append(names, otlp.TracesName)
	}
	settings := &notifierSettings{resource: resource, log: log}
	if c.Exporters.Alertmanager.Enabled {
		if name == alertmanager.DestinationName {
			return alertmanager.OpenDestination(c.Exporters.Alertmanager.Config, settings.alertmanager(), otlp.Decode)
		}
		names = append(names, alertmanager.DestinationName)
	}
	for _, w := range c.Exporters.Webhooks {
		own := webhook.DestinationName(w.Name)
		if own == name {
			w.MaxPerMinute = max(w.MaxPerMinute, events) // somebody asks for all of them
			return webhook.OpenDestination(w, settings.webhook(), otlp.Decode)
		}
		names = append(names, own)
	}
	if len(names) == 0 {
		names = append(names, "none: name the configuration with --config")
	}
	return nil, fmt.Errorf("the configuration has no destination %q; there are: %s", name, strings.Join(names, ", "))
}
