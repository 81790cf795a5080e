// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Query chooses events. Its zero value chooses all.
type Query struct {
	// Since and Until bound the events' own time; zero means no bound.
	Since, Until time.Time
	// Session and Sandbox are ids; "" means any.
	Session, Sandbox string
	// Kinds is the wanted kinds; none means all.
	Kinds []event.Kind
	// MinSeverity is the least severity.
	MinSeverity event.Severity
	// PriorityOnly leaves out what is not in the priority lane, unread.
	PriorityOnly bool
}

func (q *Query) frame(h *frameHeader) bool {
	return h.severity >= q.MinSeverity &&
		(q.Since.IsZero() || h.last >= q.Since.UnixNano()) && (q.Until.IsZero() || h.first <= q.Until.UnixNano())
}

func (q *Query) event(e *event.Encoded) bool {
	if e.Severity < q.MinSeverity || q.Session != "" && e.Session != q.Session || q.Sandbox != "" && e.Sandbox != q.Sandbox ||
		!q.Since.IsZero() && e.Time.Before(q.Since) || !q.Until.IsZero() && e.Time.After(q.Until) {
		return false
	}
	return len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)
}

// Reader reads a journal's events in the order in which they were made, also while a collector writes it. It
// needs no lock and changes nothing. It is used by one goroutine.
type Reader struct {
	query Query
	lanes [eventLanes]*laneReader
	next  [eventLanes]event.Encoded
	have  [eventLanes]bool
	// dry is for how many events a lane that had no more is not looked at again: that costs a look at the folder.
	dry [eventLanes]int
}

// dryEvents is how many that is.
const dryEvents = 512

// OpenReader opens the journal in a folder.
func OpenReader(dir string, q Query) (*Reader, error) {
	id, err := journalID(dir)
	if err != nil {
		return nil, err
	}
	r := &Reader{query: q}
	for lane := range Lane(eventLanes) {
		l, err := newLaneReader(lane, id)
		if err != nil {
			return nil, err
		}
		l.list = func() ([]segment, error) {
			if q.PriorityOnly && lane != Priority {
				return nil, nil
			}
			return listSegments(dir, lane)
		}
		l.position = 1
		if q.MinSeverity > 0 || !q.Since.IsZero() || !q.Until.IsZero() {
			l.wants = r.query.frame
		}
		r.lanes[lane] = l
	}
	return r, nil
}

// journalID is the id of the journal in a folder, by its oldest good segment.
func journalID(dir string) (id [16]byte, err error) {
	for lane := range Lane(lanes) {
		segments, err := listSegments(dir, lane)
		if err != nil {
			return id, err
		}
		for i := range segments {
			if r, err := openSegment(segments[i].path, lane, segments[i].base); err == nil {
				id = r.header.journal
				r.close()
				return id, nil
			}
		}
	}
	// None is there yet, or the state is all that is.
	text, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil {
		return id, fmt.Errorf("%s is no journal: %w", dir, err)
	}
	if len(text) >= stateSize && string(text[:8]) == stateMagic {
		copy(id[:], text[stateJournal:])
	}
	return id, nil
}

// Next is the next event that the query chooses. False means that there is none yet: a collector may add
// some. The event's bytes are valid until the next call.
func (r *Reader) Next() (*event.Encoded, bool, error) {
	for {
		for lane, l := range r.lanes {
			if r.have[lane] {
				continue
			}
			if r.dry[lane] > 0 {
				r.dry[lane]--
				continue
			}
			var err error
			if r.next[lane], r.have[lane], err = l.next(); err != nil {
				return nil, false, fmt.Errorf("read the journal: %w", err)
			}
			if !r.have[lane] {
				r.dry[lane] = dryEvents
			}
		}
		lane := r.earlier()
		if !r.have[lane] {
			r.dry = [eventLanes]int{}
			return nil, false, nil
		}
		r.have[lane] = false
		if e := &r.next[lane]; r.query.event(e) {
			return e, true, nil
		}
	}
}

// earlier is the lane whose next event was made first: by the number of the start that made it and by its own,
// for clocks jump.
func (r *Reader) earlier() Lane {
	switch {
	case !r.have[Priority]:
		return Events
	case !r.have[Events]:
		return Priority
	}
	a, b := r.lanes[Priority], r.lanes[Events]
	if a.frame.epoch != b.frame.epoch {
		if a.frame.epoch < b.frame.epoch {
			return Priority
		}
		return Events
	}
	if r.next[Priority].Seq < r.next[Events].Seq {
		return Priority
	}
	return Events
}

// Damaged is how many events so far could not be read back.
func (r *Reader) Damaged() uint64 { return r.lanes[Priority].damaged + r.lanes[Events].damaged }

// Close lets go of the files.
func (r *Reader) Close() {
	for _, l := range r.lanes {
		l.close()
	}
}
