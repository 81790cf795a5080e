// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/otlp"
)

func notifying(t *testing.T, more string) (*config, error) {
	t.Helper()
	cfg, err := defaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
journal: {dir: %s}
exporters:
  alertmanager: {enabled: true, urls: ["http://127.0.0.1:1"], min_severity: high}
  webhooks: [{name: chat, url: "http://127.0.0.1:1"}, {name: tickets, url: "http://127.0.0.1:1", min_severity: critical}]
%s`, filepath.Join(t.TempDir(), "journal"), more)
	return cfg, decodeConfig("C", []byte(text), cfg)
}

// TestNotifiers: who tells people of findings is fed from the journal, each as it wants, and recalls what a start
// before told; from memory where there is no journal.
func TestNotifiers(t *testing.T) {
	cfg, err := notifying(t, "")
	if err != nil {
		t.Fatal(err)
	}
	s := &watchSettings{config: cfg, log: slog.New(slog.DiscardHandler), instance: "b"}
	w := &watch{detectors: &toggles{}, store: store{log: s.log}}
	made, err := w.openNotifiers(s)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range made.fromMemory {
		names = append(names, e.Exporter.Name())
	}
	if want := []string{"alertmanager", "webhook/chat", "webhook/tickets"}; !slices.Equal(names, want) || len(made.fromJournal) > 0 {
		t.Errorf("from memory %v, from the journal %d", names, len(made.fromJournal))
	}

	before, err := journal.Open(cfg.Journal.Config, journal.Settings{Instance: "a", Logger: s.log})
	if err != nil {
		t.Fatal(err)
	}
	low, high := severeFinding("low", event.SeverityLow), severeFinding("high", event.SeverityHigh)
	record := collector.Record(before, otlp.NewEncoder(nil)).Exporter
	if err := record.Export(t.Context(), []*event.Event{low, high}); err != nil {
		t.Fatal(err)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	s.journal = &cfg.Journal
	if err := w.store.open(s.journal, s.instance); err != nil {
		t.Fatal(err)
	}
	if made, err = w.openNotifiers(s); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.exporters(made.fromJournal, nil); err != nil {
		t.Fatal(err)
	}
	wants := map[string]event.Severity{"alertmanager": event.SeverityHigh, "webhook.chat": event.SeverityMedium, "webhook.tickets": event.SeverityCritical}
	for _, d := range made.fromJournal {
		name := d.Destination.Name()
		least, known := wants[name]
		delete(wants, name)
		is := event.Encoded{Kind: event.KindFinding, Severity: least}
		not := event.Encoded{Kind: event.KindFinding, Severity: least - 1}
		other := event.Encoded{Kind: event.KindProcessExec, Severity: least}
		if !known || d.Least != least || !d.Wants(&is) || d.Wants(&not) || d.Wants(&other) || d.BatchSize == 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if len(wants) > 0 || len(made.fromMemory) > 0 {
		t.Errorf("%v are lacking, %d are fed from memory", wants, len(made.fromMemory))
	}
	stats := event.Stats{}
	w.store.addStats(&stats)
	if len(stats.Notifiers) != 3 || stats.Notifiers[0].Output != "alertmanager/http://127.0.0.1:1" || stats.Notifiers[0].Pending != 1 {
		t.Errorf("%+v", stats.Notifiers)
	}
	for _, d := range made.fromJournal {
		if err := d.Destination.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := w.store.close(); err != nil {
		t.Error(err)
	}
}

func severeFinding(id string, level event.Severity) *event.Event {
	return &event.Event{Time: time.Now(), Seq: 1, Instance: "a", Payload: &event.Finding{
		ID: id, Level: level, Rule: &event.Rule{ID: "r", UUID: "u", Version: "1"}, State: event.FindingNew, Title: "t", Count: 1,
	}}
}

// TestNamesOfOutputs: a destination cannot have the cursor of an output of findings.
func TestNamesOfOutputs(t *testing.T) {
	for _, name := range []string{"alertmanager", "webhook.chat", "webhook.x"} {
		_, err := notifying(t, fmt.Sprintf("  destinations: [{name: %s, endpoint: \"http://127.0.0.1:1\"}]\n", name))
		if err == nil || !strings.Contains(err.Error(), "is the name of an output of findings") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
