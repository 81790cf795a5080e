// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"sync"

	"github.com/watchglass/watchglass/event"
)

// WhenFull says what happens to an event for which an exporter's queue has no room.
type WhenFull uint8

const (
	// Drop counts the event as lost and goes on: for destinations that may be slow or away.
	Drop WhenFull = iota
	// Block reads no further records until there is room. The ring then fills, and the kernel counts what
	// it has no room for.
	Block
)

// reserve is how many findings, losses and starts and stops of sandboxes a full queue takes all the same;
// of one that blocks, how many events that no record made.
const reserve = 1024

// queue is the bounded buffer between the pipeline and one exporter's goroutine.
type queue struct {
	capacity int
	whenFull WhenFull

	mu      sync.Mutex
	waiting []*event.Event
	dropped uint64
	closed  bool
	hurried bool          // await waits no longer
	filled  sync.Cond     // something waits, or the queue is closed
	room    sync.Cond     // something was taken
	ending  chan struct{} // closed with the queue
	urgent  chan struct{} // gets one when a finding comes in
}

func newQueue(capacity int, whenFull WhenFull) *queue {
	q := &queue{capacity: capacity, whenFull: whenFull, ending: make(chan struct{}), urgent: make(chan struct{}, 1)}
	q.filled.L, q.room.L = &q.mu, &q.mu
	return q
}

// limit is how many events may wait for one of the kind to be taken: a flood of opens leaves a quarter
// of the queue to the others, and what a person must see has room of its own. The caller holds mu.
func (q *queue) limit(kind event.Kind) int {
	if q.whenFull == Block && !q.hurried {
		return q.capacity + reserve
	}
	switch kind {
	case event.KindFileOpen, event.KindFileMap, event.KindFileIO, event.KindSyscallSummary, event.KindSyscallProcess:
		return q.capacity - q.capacity/4
	case event.KindFinding, event.KindLoss, event.KindSandboxStart, event.KindSandboxStop:
		return q.capacity + reserve
	default:
		return q.capacity
	}
}

// await waits for room, if the queue is one that blocks. It is called before a record is taken up and not
// by push, so that nothing is held meanwhile that others need.
func (q *queue) await() {
	if q.whenFull != Block {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) >= q.capacity && !q.closed && !q.hurried {
		q.room.Wait()
	}
}

// push adds those of the events that accepts lets through, nil all, at once. Those that were dropped, and counted, are
// appended to dropped.
func (q *queue) push(events []*event.Event, accepts func(*event.Event) bool, dropped []*event.Event) []*event.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range events {
		if (accepts == nil || accepts(e)) && !q.add(e) {
			dropped = append(dropped, e)
		}
	}
	return dropped
}

// add adds an event. False means that it was dropped. The caller holds mu.
func (q *queue) add(e *event.Event) bool {
	if len(q.waiting) >= q.limit(e.Kind()) || q.closed {
		q.dropped++
		return false
	}
	q.waiting = append(q.waiting, e)
	if e.Kind() == event.KindFinding {
		select {
		case q.urgent <- struct{}{}:
		default: // it is urgent already
		}
	}
	if len(q.waiting) == 1 {
		q.filled.Signal()
	}
	return true
}

// pull appends everything that waits to dst, at most limit events, waiting for the first, and the rest of what one record
// made. False means that the queue is closed and empty.
func (q *queue) pull(dst []*event.Event, limit int) ([]*event.Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.filled.Wait()
	}
	if len(q.waiting) == 0 {
		return dst, false
	}
	n := min(limit, len(q.waiting))
	for n < len(q.waiting) && q.waiting[n].Place.Ring != 0 && q.waiting[n].Place == q.waiting[n-1].Place {
		n++
	}
	dst = append(dst, q.waiting[:n]...)
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	q.room.Broadcast()
	return dst, true
}

// close lets pull return what waits and then end.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.ending)
	q.filled.Broadcast()
	q.room.Broadcast()
}

// hurry makes a full queue drop instead of block.
func (q *queue) hurry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hurried = true
	q.room.Broadcast()
}

// state is how many events wait and how many were dropped.
func (q *queue) state() (waiting int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), q.dropped
}
