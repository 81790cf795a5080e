// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"testing"

	"github.com/watchglass/watchglass/event"
)

// at is an event that a record at a position made.
func at(seq, position uint64, kind event.Kind) event.Encoded {
	e := made("a", seq)
	e.Kind, e.Place = kind, event.Place{Ring: 7, Position: position}
	return e
}

// TestMarks kills a writer between the parts of an append, as far as its state tells, and has the next one be given
// the same records again: each event is kept once.
func TestMarks(t *testing.T) {
	exec, finding := event.KindProcessExec, event.KindFinding
	cfg := smallJournal(t)
	j := open(t, cfg, "one")
	before := [lanes]uint64{j.lanes[Priority].head, j.lanes[Events].head}
	j.Append([]event.Encoded{at(1, 10, exec), at(2, 10, finding), at(3, 20, exec)}, 0)
	if n := j.Recorded(7); n != 20 {
		t.Fatalf("recorded up to %d", n)
	}
	if n := j.Recorded(8); n != 0 {
		t.Errorf("of another ring recorded up to %d", n)
	}
	// The lane of findings is written first; then comes the end.
	next := at(4, 40, finding)
	if n, err := j.lanes[Priority].appendEvents([]event.Encoded{next}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	// What was only intended is not true.
	j.lanes[Events].marker.intend(j.lanes[Events].head+1, event.Place{Ring: 7, Position: 30})
	if err := j.lock.Close(); err != nil { // as the end of the process would
		t.Fatal(err)
	}

	j = open(t, cfg, "two")
	if n := j.Recorded(7); n != 20 {
		t.Fatalf("after the end recorded up to %d", n)
	}
	// One batch ends before the place that the lane of findings has reached already.
	j.Append([]event.Encoded{at(1, 30, exec), at(2, 30, finding)}, 0)
	j.Append([]event.Encoded{at(3, 40, exec), at(4, 40, finding), at(5, 50, exec), at(6, 50, finding)}, 0)
	if n := j.Recorded(7); n != 50 {
		t.Errorf("in the end recorded up to %d", n)
	}
	kept := map[event.Kind]uint64{exec: j.lanes[Events].head - before[Events], finding: j.lanes[Priority].head - before[Priority]}
	// Of findings, that at 30 was none of the first start's: detectors may find what they did not before.
	if kept[exec] != 5 || kept[finding] != 3 {
		t.Errorf("kept %v", kept)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
