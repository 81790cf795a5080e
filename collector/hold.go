// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
)

// Hold is how records stay in the kernel's ring until the journal has what was made of them, so that a collector
// that is killed loses nothing and tells nothing twice.
type Hold struct {
	// Journal is where events are written down.
	Journal *journal.Journal
	// Most is how many bytes of the ring may be taken while any are held for a journal that does not get on. One that
	// does is waited for, by the kernel side refusing what is common.
	Most int
}

// stallTime is after how long without any progress a journal does not get on.
const stallTime = 500 * time.Millisecond

// held is where the pipeline is in the ring. It is used by the goroutine that records come from.
type held struct {
	// at is the place of the record being handled, last that of the last one of which an event was made.
	at, last event.Place
	// resumed is up to where the start before had written a ring down, and of which ring that was asked.
	resumed event.Place
	// written is up to where the journal was when that last changed, and when that was.
	written uint64
	changed time.Time
	// gathered is the events of the record being handled; refused is those for which a queue had no room.
	gathered, refused []*event.Event
}

// begin takes up a record. False means that all that is told by it was written down by the start before: it says only how
// things stand.
func (p *Pipeline) begin(r *bpf.Record) {
	p.held.at, p.replaying = event.Place{Ring: r.Ring, Position: r.Position}, false
	if p.s.Hold == nil || r.Ring == 0 {
		return
	}
	if p.held.resumed.Ring != r.Ring {
		p.held.resumed = event.Place{Ring: r.Ring, Position: p.s.Hold.Journal.Recorded(r.Ring)}
	}
	p.replaying = r.Position <= p.held.resumed.Position
}

// end hands on what was made of a record, all at once: so that it gets into the journal at once too.
func (p *Pipeline) end() {
	if len(p.held.gathered) > 0 {
		p.held.last = p.held.at
		p.exportGathered()
	}
	p.held.at, p.replaying = event.Place{}, false
}

// Held says up to where records may leave the ring: see bpf.Config.
func (p *Pipeline) Held(ring, read, end uint64) uint64 {
	hold := p.s.Hold
	if hold == nil {
		return read
	}
	written := hold.Journal.Recorded(ring)
	if p.held.last.Ring != ring || p.held.last.Position <= written {
		return read
	}
	if written != p.held.written {
		p.held.written, p.held.changed = written, time.Now()
	}
	if end-min(end, written) > uint64(hold.Most) && time.Since(p.held.changed) > stallTime {
		hold.Journal.Abandoned(event.Place{Ring: ring, Position: read})
		return read
	}
	return written
}
