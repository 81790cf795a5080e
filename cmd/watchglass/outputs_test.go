// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/otlp"
)

// fileNode is the part of a daemon that is behind its pipeline: a journal, JSON lines and the timeline.
type fileNode struct {
	cfg   *config
	store store
	seq   uint64
}

func newFileNode(t *testing.T, dir string) *fileNode {
	t.Helper()
	cfg, err := defaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Journal.Dir = filepath.Join(dir, "journal")
	cfg.Exporters.JSON.Enabled, cfg.Exporters.JSON.Path = true, filepath.Join(dir, "events.jsonl")
	cfg.Exporters.Text.Enabled, cfg.Exporters.Text.Path = true, filepath.Join(dir, "timeline.txt")
	return &fileNode{cfg: cfg}
}

// run starts it, has it take so many events, and ends it when they are in the files; at once without files.
func (n *fileNode) run(t *testing.T, events int, files bool) {
	t.Helper()
	n.store = store{log: slog.New(slog.DiscardHandler)}
	if err := n.store.open(&n.cfg.Journal, fmt.Sprintf("start-%d", n.seq)); err != nil {
		t.Fatal(err)
	}
	var destinations []collector.DestinationSettings
	if files {
		outputs, err := n.cfg.Exporters.outputs(true, nil)
		if err != nil || len(outputs.fromMemory) > 0 {
			t.Fatalf("%v: %d outputs are fed from memory", err, len(outputs.fromMemory))
		}
		destinations = outputs.fromJournal
	}
	if _, err := n.store.exporters(destinations, nil); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	n.store.start(failed)
	encoder := otlp.NewEncoder(nil)
	for range events {
		n.seq++
		e := &event.Event{
			Time: time.Now(), Seq: n.seq, Instance: "inst", Process: &event.Process{PID: 42, Name: "make"},
			Payload: &event.ProcessExec{Args: []string{"make", fmt.Sprint(n.seq)}, ArgsCount: 2},
		}
		var encoded event.Encoded
		encoder.Encode(&encoded, e)
		n.store.journal.Append([]event.Encoded{encoded}, 0)
	}
	if files {
		n.store.drain(t.Context())
	}
	if err := n.store.close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-failed:
		t.Error(err)
	default:
	}
}

// TestFilesGoOn: JSON lines and the timeline of a daemon go on after a restart with what they did not get before it,
// and a crash in the middle of a line costs none.
func TestFilesGoOn(t *testing.T) {
	dir := t.TempDir()
	n := newFileNode(t, dir)
	n.run(t, 50, true)
	n.run(t, 20, false) // these wait
	for _, torn := range []struct{ path, text string }{
		{n.cfg.Exporters.JSON.Path, `{"time":"2026-03-14T15:09:26`}, {n.cfg.Exporters.Text.Path, "2026-03-14 15:09:26.535 make["},
	} {
		file, err := os.OpenFile(torn.path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(torn.text); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	n.run(t, 30, true)
	text, err := os.ReadFile(n.cfg.Exporters.JSON.Path)
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	for row := range strings.Lines(string(text)) {
		var l line
		if err := json.Unmarshal([]byte(row), &l); err != nil || l.Attributes["log.record.uid"] != fmt.Sprintf("inst-%d", next) {
			t.Fatalf("line %d: %v: %s", next, err, row)
		}
		next++
	}
	timeline, err := os.ReadFile(n.cfg.Exporters.Text.Path)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(timeline), "make[42]"); next != 101 || got != 100 || strings.Count(string(timeline), "\n") != 100 {
		t.Errorf("of 100 events %d are in the JSON lines, %d in the timeline:\n%s", next-1, got, timeline)
	}
}

// TestTerminalIsFedFromMemory: what a terminal shows is what happens now, and without a journal everything is fed so.
func TestTerminalIsFedFromMemory(t *testing.T) {
	n := newFileNode(t, t.TempDir())
	outputs, err := n.cfg.Exporters.outputs(false, nil)
	if err != nil || len(outputs.fromMemory) != 2 || len(outputs.fromJournal) != 0 {
		t.Errorf("without a journal: %v, %+v", err, outputs)
	}
	n.cfg.Exporters.Text.Path = "/dev/null" // a character device
	outputs, err = n.cfg.Exporters.outputs(true, nil)
	if err != nil || len(outputs.fromMemory) != 1 || len(outputs.fromJournal) != 1 {
		t.Errorf("with a terminal: %v, %+v", err, outputs)
	}
}
