// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// state is a page of memory that is also a file: what is put there survives the end of this process, however
// sudden, at the price of a store. By it the next start knows how many events this one made, and so how many
// of them never came into the journal. A crash of the machine may set it back: it is then a lower bound.
type state struct{ page []byte }

// The places of its fields. Each is one word, so that none is ever half written.
const (
	stateSize      = 4096
	stateMagic     = "WGSTATE1"
	stateJournal   = 8  // 16 bytes: the journal's id
	stateEpoch     = 24 // which start of the collector
	stateProduced  = 32 // the last event's number
	stateClean     = 40 // 1 after an orderly end
	stateStart     = 48 // per lane: the next ordinal at the start
	stateHead      = 64 // per lane: the next ordinal
	stateInstance  = 80 // its length, then its bytes
	instanceLength = 128
	stateUntold    = 256 // how many events of earlier starts are lost, and no event that is written tells so yet
	// The lane of spans came later: its start, its head, the last span's number, how many spans of earlier starts are
	// lost and not told of yet, how many are being made, and of how many lost ones of this start events tell.
	stateSpansStart     = 272
	stateSpansHead      = 280
	stateSpansProduced  = 288
	stateSpansUntold    = 296
	stateSpansOpen      = 304
	stateSpansAccounted = 312
)

// openState maps the page, made anew when it is not there or not a journal's.
func openState(dir string) (*state, error) {
	file, err := os.OpenFile(filepath.Join(dir, "state"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal's state: %w", err)
	}
	defer func() { _ = file.Close() }()
	var old [stateSize]byte
	if n, _ := file.ReadAt(old[:], 0); n < stateSize || string(old[:8]) != stateMagic {
		clear(old[:])
		copy(old[:], stateMagic)
		_, _ = rand.Read(old[stateJournal : stateJournal+16]) // documented never to fail
		// Written, not only made longer: the page must not need room on the disk later.
		if _, err := file.WriteAt(old[:], 0); err != nil {
			return nil, fmt.Errorf("write the journal's state: %w", err)
		}
	}
	page, err := unix.Mmap(int(file.Fd()), 0, stateSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the journal's state: %w", err)
	}
	return &state{page: page}, nil
}

func (s *state) get(at int) uint64    { return binary.LittleEndian.Uint64(s.page[at:]) }
func (s *state) set(at int, v uint64) { binary.LittleEndian.PutUint64(s.page[at:], v) }

func (s *state) start(lane Lane) uint64 { return s.get(stateOf(lane, stateStart, stateSpansStart)) }
func (s *state) head(lane Lane) uint64  { return s.get(stateOf(lane, stateHead, stateSpansHead)) }

func (s *state) setHead(lane Lane, ordinal uint64) {
	s.set(stateOf(lane, stateHead, stateSpansHead), ordinal)
}

// stateOf is the place of a lane's field: in a list of those of events, or that of spans.
func stateOf(lane Lane, events, spans int) int {
	if lane == Spans {
		return spans
	}
	return events + 8*int(lane)
}

func (s *state) journal() (id [16]byte) {
	copy(id[:], s.page[stateJournal:])
	return id
}

// instance is whose start the page is about; "" when that is none's.
func (s *state) instance() string {
	n := min(s.get(stateInstance), instanceLength)
	return string(s.page[stateInstance+8 : stateInstance+8+n])
}

// untold is how many events and spans of earlier starts are lost, and no event that is written tells so yet.
type untold struct{ events, spans uint64 }

// begin makes the page that of a new start.
func (s *state) begin(instance string, epoch uint32, heads [lanes]uint64, lost untold) {
	s.set(stateUntold, lost.events)
	s.set(stateSpansUntold, lost.spans)
	s.set(stateSpansProduced, 0)
	s.set(stateSpansOpen, 0)
	s.set(stateSpansAccounted, 0)
	n := copy(s.page[stateInstance+8:stateInstance+8+instanceLength], instance)
	s.set(stateInstance, uint64(n))
	s.set(stateProduced, 0)
	s.set(stateClean, 0)
	for lane, head := range heads {
		s.set(stateOf(Lane(lane), stateStart, stateSpansStart), head)
		s.setHead(Lane(lane), head)
	}
	s.set(stateEpoch, uint64(epoch))
}

func (s *state) close() error {
	page := s.page
	s.page = nil
	if page == nil {
		return nil
	}
	if err := unix.Munmap(page); err != nil {
		return fmt.Errorf("unmap the journal's state: %w", err)
	}
	return nil
}
