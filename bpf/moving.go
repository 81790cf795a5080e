// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// States of a place (enum moving_state).
const (
	movingFree = uint32(fileMovingStateMOVING_FREE)
	movingUsed = uint32(fileMovingStateMOVING_USED)
	movingLeft = uint32(fileMovingStateMOVING_LEFT)
)

// movings is the places where the kernel side counts most of what is read and written, beside the counters of files: the memory
// of its map, in which it goes on to count meanwhile. It takes places, and user space frees them. The zero value has none.
type movings struct {
	memory []byte
	places []fileMoving
	// left is, place by place, the look at which it was seen that nobody is to count there any more; 0 for not.
	left []uint64
}

func newMovings(m *ebpf.Map) (*movings, error) {
	n := int(m.MaxEntries())
	memory, err := unix.Mmap(m.FD(), 0, n*int(m.ValueSize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the places where transfers are counted: %w", err)
	}
	return &movings{memory: memory, places: laidOut[fileMoving](memory), left: make([]uint64, n)}, nil
}

func (m *movings) close() error {
	if m.memory == nil {
		return nil
	}
	memory := m.memory
	*m = movings{}
	if err := unix.Munmap(memory); err != nil {
		return fmt.Errorf("unmapping the places where transfers are counted: %w", err)
	}
	return nil
}

// at is the place that a file can have, whoever has it, as moving_of() finds it; nil where there are none.
func (m *movings) at(key *fileTransferKey) *fileMoving {
	mixed := uint32(key.Inode)*uint32(fileMovingPlaceMOVING_MIX_INODE) ^ key.Pid*uint32(fileMovingPlaceMOVING_MIX_PID)
	place := mixed >> (32 - fileMovingPlaceMOVING_BITS)
	if int(place) >= len(m.places) {
		return nil
	}
	return &m.places[place]
}

// of is the place of a file, nil where it has none.
func (m *movings) of(key *fileTransferKey) *fileMoving {
	p := m.at(key)
	if p == nil || atomic.LoadUint32(&p.State) == movingFree || p.Key != *key {
		return nil
	}
	return p
}

// counted adds to a file's counters what its place has counted.
func (m *movings) counted(key *fileTransferKey, sum *fileTransfer) {
	if p := m.of(key); p != nil {
		sum.Reading += atomic.LoadUint64(&p.Reading)
		sum.Writing += atomic.LoadUint64(&p.Writing)
	}
}

// leave has the next use of the file be told, as one that begins.
func (p *fileMoving) leave() { atomic.StoreUint32(&p.Last, 0) }

// take takes what the place has counted, to add it to a file's counters, and says whether that is anything.
func (p *fileMoving) take(sum *fileTransfer) bool {
	p.leave()
	reading, writing := atomic.SwapUint64(&p.Reading, 0), atomic.SwapUint64(&p.Writing, 0)
	addPacked(reading, &sum.Read, &sum.Reads)
	addPacked(writing, &sum.Written, &sum.Writes)
	return reading|writing != 0
}

// holds says whether the place has counted anything that was not taken.
func (p *fileMoving) holds() bool {
	return atomic.LoadUint64(&p.Reading)|atomic.LoadUint64(&p.Writing) != 0
}

// unknown is the places of files that are not known, by their numbers.
func (m *movings) unknown(known func(*fileTransferKey) bool) (places []int) {
	for i := range m.places {
		p := &m.places[i]
		if atomic.LoadUint32(&p.State) == movingFree {
			continue
		}
		if key := p.Key; !known(&key) {
			places = append(places, i)
		}
	}
	return places
}

// free frees a place that holds nothing and whose file is not known, at the look of that number: at least one after it had nobody
// count there any more. A program that found the place its own before is over by then, so that nothing is counted for the next.
func (m *movings) free(place int, look uint64) {
	p := &m.places[place]
	switch {
	case atomic.CompareAndSwapUint32(&p.State, movingUsed, movingLeft):
		p.leave()
		m.left[place] = look
	case m.left[place] == 0 || atomic.SwapUint32(&p.Last, 0) != 0:
		m.left[place] = look
	case m.left[place] < look:
		m.left[place] = 0
		// Not where the file is in use again.
		atomic.CompareAndSwapUint32(&p.State, movingLeft, movingFree)
	}
}
