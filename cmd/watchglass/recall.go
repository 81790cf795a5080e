// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/otlp"
	"github.com/watchglass/watchglass/exporters/recall"
)

// recallTime bounds how long a start looks through the journal for who the processes are that are alive: meanwhile the ring
// fills.
const recallTime = time.Second

// recallStretches is how far back it looks, the latest first.
func recallStretches() []time.Duration {
	return []time.Duration{5 * time.Minute, time.Hour, 6 * time.Hour, 2 * 24 * time.Hour}
}

// recall has the pipeline know the processes of the sandboxes that the collector before watched, as it told of them.
func (w *watch) recall(sandboxes map[string]*event.Sandbox) {
	began := time.Now()
	known := recall.NewProcesses()
	complete, err := readStretches(w.journalDir, began, func(e *event.Encoded) error {
		if sandboxes[e.Sandbox] == nil {
			return nil
		}
		r, err := otlp.Decode(e)
		if err == nil {
			known.Add(r)
		}
		return err
	}, known.Earlier)
	if err != nil {
		w.log.Warn("some processes are known by what the kernel tells alone", "error", err)
	}
	of := map[string][]*event.Process{}
	n := 0
	for _, p := range known.Alive() {
		of[p.Sandbox] = append(of[p.Sandbox], &p.Process)
		n++
	}
	for id, processes := range of {
		w.pipeline.Recall(sandboxes[id], processes)
	}
	w.log.Info("recalled processes from the journal", "processes", n, "complete", complete && known.Omitted == 0, "took", time.Since(began))
}

// readStretches hands on the events of the journal in a folder, one stretch after another, the latest first, with a call
// of next after each. False means that there was no time for all.
func readStretches(dir string, now time.Time, add func(*event.Encoded) error, next func()) (complete bool, err error) {
	until := time.Time{} // the clock may have been put back
	for _, back := range recallStretches() {
		q := journal.Query{Since: now.Add(-back), Until: until}
		if complete, err = readStretch(dir, q, now.Add(recallTime), add); err != nil || !complete {
			return complete, err
		}
		next()
		until = q.Since.Add(-1)
	}
	return true, nil
}

func readStretch(dir string, q journal.Query, deadline time.Time, add func(*event.Encoded) error) (complete bool, err error) {
	reader, err := journal.OpenReader(dir, q)
	if err != nil {
		return false, err
	}
	defer reader.Close()
	const between = 256 // events, after which it looks at the clock
	for n := 1; ; n++ {
		if n%between == 0 && time.Now().After(deadline) {
			return false, nil
		}
		e, ok, err := reader.Next()
		if err != nil || !ok {
			return err == nil, err
		}
		if err := add(e); err != nil {
			return false, err
		}
	}
}
