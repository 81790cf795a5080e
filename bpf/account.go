// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"time"

	"github.com/watchglass/watchglass/event"
)

// account notes what a record says of the things that the kernel side counts instead of telling each, and tells what
// was counted of a process, or of the program that it was, before its end is told, or its exec.
func (t *Tracer) account(r *Record, handle func(*Record)) {
	_, ended := r.Payload.(*event.ProcessExit)
	if ended && t.calls != nil {
		t.calls.ended(&r.Task)
	}
	if t.repeats != nil {
		if ended {
			t.repeats.ended(r.Task.Start, handle)
		}
		t.repeats.note(r)
	}
	if t.transfers != nil {
		if ended {
			t.transfers.ended(r, handle)
		} else if _, executed := r.Payload.(*event.ProcessExec); executed {
			t.transfers.executed(r, handle)
		}
		t.transfers.note(r)
	}
}

// sweep tells what was counted and is due.
func (t *Tracer) sweep(now time.Time, handle func(*Record)) {
	if t.repeats != nil {
		t.repeats.sweep(now, handle)
	}
	if t.transfers != nil {
		t.transfers.sweep(now, handle)
	}
	if t.datagrams != nil {
		t.datagrams.sweep(now, handle)
	}
	t.sweepFlows(now)
	t.sweepLabels(now)
}

// flush tells everything that was counted.
func (t *Tracer) flush(handle func(*Record)) {
	if t.repeats != nil {
		t.repeats.flush(handle)
	}
	if t.transfers != nil {
		t.transfers.flush(time.Now(), handle)
	}
	if t.datagrams != nil {
		t.datagrams.flush(time.Now(), handle)
	}
}
