// SPDX-License-Identifier: Apache-2.0

package journal

import "github.com/watchglass/watchglass/event"

// AppendSpans writes spans: records of a lane of their own, which the cursors that ask for spans read and nobody else.
// They are numbered from 1 in each start, by who makes them: the next start tells of those that it does not find. It
// returns as Append does, and may be called while that is. The spans are only lent.
func (j *Journal) AppendSpans(spans []event.Encoded) {
	if len(spans) == 0 {
		return
	}
	j.write.Lock()
	defer j.write.Unlock()
	if j.closed {
		j.lose(Spans, reasonFailed, uint64(len(spans)))
		return
	}
	j.setState(stateSpansProduced, spans[len(spans)-1].Seq)
	kept := j.split[Spans][:0]
	for i := range spans {
		if s := &spans[i]; len(s.Record)+len(s.Resource)+len(s.Session) > maxRecord {
			j.lose(Spans, reasonTooLarge, 1)
		} else {
			kept = append(kept, *s)
		}
	}
	j.append(Spans, kept)
	clear(kept)
	j.split[Spans] = kept
	if j.cfg.Sync == SyncAlways {
		j.sync()
	}
	j.wake()
}

// Unfinished says how many spans are being made: a start that ends without order takes them with it, and the next one
// tells of them.
func (j *Journal) Unfinished(n int) { j.setState(stateSpansOpen, uint64(n)) }

// ToldOfSpans says that a loss, if it is one of spans, is written as an event.
func (j *Journal) ToldOfSpans(l *event.Loss) {
	if l.Stage != event.LossJournal || l.Lost != SpansName {
		return
	}
	j.ending.RLock()
	defer j.ending.RUnlock()
	if j.state.page == nil {
		return
	}
	switch l.Reason {
	case reasonCrash, reasonTorn, reasonUnfinished: // of an earlier start
		j.state.set(stateSpansUntold, j.state.get(stateSpansUntold)-min(l.Count, j.state.get(stateSpansUntold)))
	default:
		j.state.set(stateSpansAccounted, j.state.get(stateSpansAccounted)+l.Count)
	}
}

// setState puts a word into the state's page, unless that is let go of.
func (j *Journal) setState(at int, v uint64) {
	j.ending.RLock()
	defer j.ending.RUnlock()
	if j.state.page != nil {
		j.state.set(at, v)
	}
}
