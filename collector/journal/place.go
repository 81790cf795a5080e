// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"github.com/watchglass/watchglass/event"
)

// A lane's mark is up to which place of the kernel's ring its events are written. It is put down in the state's page
// before the frame that it is about, with the ordinal that the frame makes the lane reach: after a crash the lane's
// end says whether the frame was written, and so whether the mark is true. So what the ring still holds and the
// journal has already is known event by event.
type mark struct {
	// head is the next ordinal once the mark is true, serial orders the marks of a lane.
	head, serial uint64
	place        event.Place
}

// The places of the marks in the state's page: two a lane, so that one is always whole.
const (
	stateMarks     = 512
	stateMarkSize  = 32
	stateAbandoned = 768 // the ring, and the position up to which records left it before their events were written
	stateFree      = 784 // how many events no record made, and how many of them are written
	stateFreeKept  = 792
)

func stateMark(lane Lane, slot int) int { return stateMarks + (2*int(lane)+slot)*stateMarkSize }

// setMark writes a mark so that it is never half believed.
func (s *state) setMark(lane Lane, slot int, m mark) {
	at := stateMark(lane, slot)
	s.set(at+8, 0)
	s.set(at, m.head)
	s.set(at+16, m.place.Ring)
	s.set(at+24, m.place.Position)
	s.set(at+8, m.serial)
}

// mark is the last true mark of a lane that ends before the ordinal head, and its slot.
func (s *state) mark(lane Lane, head uint64) (last mark, slot int) {
	for i := range 2 {
		at := stateMark(lane, i)
		m := mark{head: s.get(at), serial: s.get(at + 8), place: event.Place{Ring: s.get(at + 16), Position: s.get(at + 24)}}
		if m.serial > last.serial && m.head <= head {
			last, slot = m, i
		}
	}
	return last, slot
}

// marker keeps the mark of one lane.
type marker struct {
	state *state
	lane  Lane
	last  mark
	slot  int
}

func openMarker(s *state, lane Lane, head uint64) *marker {
	m := &marker{state: s, lane: lane}
	m.last, m.slot = s.mark(lane, head)
	return m
}

// intend puts down the mark that is true once the lane's end is head.
func (m *marker) intend(head uint64, place event.Place) mark {
	next := mark{head: head, serial: m.last.serial + 1, place: place}
	m.state.setMark(m.lane, 1-m.slot, next)
	return next
}

// reached says that the mark is true.
func (m *marker) reached(next mark) {
	m.last, m.slot = next, 1-m.slot
}

// has says whether the events of a place are written already.
func (m *marker) has(p event.Place) bool {
	return p.Ring != 0 && p.Ring == m.last.place.Ring && p.Position <= m.last.place.Position
}

// lastPlace is the place of the last of the events that has one.
func lastPlace(events []event.Encoded) (last event.Place) {
	for i := range events {
		if events[i].Place.Ring != 0 {
			last = events[i].Place
		}
	}
	return last
}

// settle marks both lanes as complete up to a place, if nothing is held back.
func (j *Journal) settle(place event.Place, free uint64) {
	j.ending.RLock()
	defer j.ending.RUnlock()
	if j.state.page == nil {
		return
	}
	if free > 0 {
		j.state.set(stateFreeKept, j.state.get(stateFreeKept)+free)
	}
	if place.Ring == 0 || j.held[Priority].waiting() || j.held[Events].waiting() {
		return
	}
	for _, l := range j.lanes[:eventLanes] {
		if !l.marker.has(place) { // else the lane is further: the start before was killed between the two
			l.marker.reached(l.marker.intend(l.head, place))
		}
	}
	complete := place
	j.recorded.Store(&complete)
}

// Recorded is up to which position of a ring all events are written; 0 when none of that ring is.
func (j *Journal) Recorded(ring uint64) uint64 {
	if p := j.recorded.Load(); p != nil && p.Ring == ring {
		return p.Position
	}
	return 0
}

// Abandoned says that records up to a place left the ring before their events were written.
func (j *Journal) Abandoned(p event.Place) {
	j.ending.RLock()
	defer j.ending.RUnlock()
	if j.state.page != nil {
		j.state.set(stateAbandoned, p.Ring)
		j.state.set(stateAbandoned+8, p.Position)
	}
}

// ProducedFree says that an event was made that no record made.
func (j *Journal) ProducedFree() {
	j.ending.RLock()
	defer j.ending.RUnlock()
	if j.state.page != nil {
		j.state.set(stateFree, j.state.get(stateFree)+1)
	}
}

// Continues says that the ring of the start before is being read on, from where its records had not left it. What that
// start made of them and did not write is made again, and is not lost.
func (j *Journal) Continues(ring uint64) {
	j.write.Lock()
	defer j.write.Unlock()
	if ring == 0 || ring != j.before.ring || j.before.crash == 0 {
		return
	}
	lost := min(j.before.free, j.before.crash)
	if j.before.abandoned {
		return // some of it left the ring: how much is not known
	}
	j.mu.Lock()
	j.lost[reasonCrash] -= j.before.crash - lost
	j.mu.Unlock()
	j.log.Info("what the previous start did not leave in the journal is told again from the kernel's ring",
		"events", j.before.crash-lost, "lost", lost)
	j.state.set(stateUntold, j.state.get(stateUntold)-(j.before.crash-lost))
	j.before.crash = 0
}

// before is what the start before left.
type before struct {
	// ring is the ring that it read, crash how many events it made and did not write, free how many of those no
	// record made. abandoned is true when records had left the ring before.
	ring, crash, free uint64
	abandoned         bool
}

// survey looks at the marks that the start before left.
func (j *Journal) survey() {
	complete := event.Place{}
	for lane, l := range j.lanes {
		l.marker = openMarker(j.state, Lane(lane), l.head)
		p := l.marker.last.place
		if Lane(lane) == Spans {
			break // no record of the kernel's makes a span
		}
		if lane == 0 || p.Ring == complete.Ring && p.Position < complete.Position {
			complete = p
		} else if p.Ring != complete.Ring {
			complete = event.Place{} // the ring changed between the two: none of the new one is complete
		}
	}
	if complete.Ring != 0 {
		j.recorded.Store(&complete)
	}
	j.before.ring = max(complete.Ring, j.lanes[Events].marker.last.place.Ring)
	j.before.abandoned = j.state.get(stateAbandoned) == j.before.ring && j.state.get(stateAbandoned+8) > complete.Position
	free, kept := j.state.get(stateFree), j.state.get(stateFreeKept)
	j.before.free = free - min(kept, free)
	j.state.set(stateFree, 0)
	j.state.set(stateFreeKept, 0)
}
