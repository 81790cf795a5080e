// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Errors of decoding. A record that cannot be decoded is counted and left out; it never stops the others.
var (
	errShort   = errors.New("record is shorter than its kind")
	errUnknown = errors.New("record of an unknown probe or kind")
	errLength  = errors.New("record's lengths do not add up")
)

// eventHeader is the Go twin of the header that every record starts with.
type eventHeader = processEventHeader

// view copies a C struct out of the front of data and returns what follows it.
// T must be a generated type: fixed size, no pointers, explicit padding.
func view[T any](data []byte) (T, []byte, error) {
	var v T
	size := int(unsafe.Sizeof(v))
	if len(data) < size {
		return v, nil, fmt.Errorf("%w: %d bytes of %d", errShort, len(data), size)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), size), data)
	return v, data[size:], nil
}

// take splits the first n bytes off data.
func take(data []byte, n uint32) (head, rest []byte, err error) {
	if uint64(n) > uint64(len(data)) {
		return nil, nil, fmt.Errorf("%w: %d bytes of %d", errLength, n, len(data))
	}
	return data[:n], data[n:], nil
}

// word64 and word32 are the first words of memory that is shared with the kernel. It must be aligned, as a page is
// and a record is.
func word64(b []byte) *atomic.Uint64 {
	_ = b[7]
	return (*atomic.Uint64)(unsafe.Pointer(&b[0]))
}

func word32(b []byte) *atomic.Uint32 {
	_ = b[3]
	return (*atomic.Uint32)(unsafe.Pointer(&b[0]))
}

// laidOut is memory that is shared with the kernel as what lies in it one after the other, as many as are whole. T is as for view.
func laidOut[T any](b []byte) []T {
	var v T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(v)))
}

// text makes a string of the bytes before the first NUL.
func text(b []byte) string { return string(beforeNUL(b)) }

func beforeNUL(b []byte) []byte {
	before, _, _ := bytes.Cut(b, []byte{0})
	return before
}

// decoder turns records of the ring into Records.
type decoder struct {
	probes []probe
	clock  *clock
	memory memory
	// record is the one that was decoded last.
	record Record
}

// decode decodes one record, which is good until the next one. It never panics, whatever the bytes.
func (d *decoder) decode(data []byte) (*Record, error) {
	head, _, err := view[eventHeader](data)
	if err != nil {
		return nil, err
	}
	if int(head.Probe) >= len(d.probes) {
		return nil, fmt.Errorf("%w: probe %d", errUnknown, head.Probe)
	}
	d.memory.large = len(data) > smallRecord
	r := &d.record
	*r = Record{
		Time:      d.clock.wall(head.Time),
		Sandbox:   head.Sandbox,
		Cgroup:    head.Cgroup,
		Truncated: head.Flags&uint32(processEventFlagsEVENT_TRUNCATED) != 0,
		Task: Task{
			PID: head.Pid, TID: head.Tid, ParentPID: head.ParentPid, VPID: head.Vpid,
			UserID: head.Uid, GroupID: head.Gid,
			Start: head.Start, ParentStart: head.ParentStart,
			StartTime: d.clock.wall(head.Start),
			Comm:      d.memory.comms.of(beforeNUL(head.Comm[:])),
		},
		memory: &d.memory,
		large:  d.memory.large,
	}
	p := &d.probes[head.Probe]
	err = p.decode(r, head.Kind, data)
	r.memory = nil
	if err != nil {
		return nil, fmt.Errorf("decoding a record of probe %s: %w", p.name, err)
	}
	return r, nil
}

// address is where memory is, for a system call. The caller keeps it alive.
func address(memory []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(memory))) }
