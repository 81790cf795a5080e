// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of io_uring's interface (linux/io_uring.h).
const (
	ringOpSendMsg   = 9
	ringOpAccept    = 13
	ringOpConnect   = 16
	ringOpOpenat    = 18
	ringOpClose     = 19
	ringOpSend      = 26
	ringOpRecv      = 27
	ringOpOpenat2   = 28
	ringOpRenameat  = 35
	ringOpUnlinkat  = 36
	ringOpMkdirat   = 37
	ringOpSymlinkat = 38
	ringOpLinkat    = 39
	ringOpSocket    = 45
	ringOpFtruncate = 55
	ringOpBind      = 56
	ringOpListen    = 57

	ringSetupPoll   = 1 << 1
	ringEnterEvents = 1 << 0
	ringEnterWakeUp = 1 << 1
	ringNeedWakeUp  = 1 << 0

	ringEntryAsync       = 1 << 4
	ringEntrySkipSuccess = 1 << 6

	ringAcceptMultishot = 1 << 0

	ringRegisterFiles = 2
	ringSlotAny       = 0xffffffff

	ringOffsetSubmit   = 0
	ringOffsetComplete = 0x8000000
	ringOffsetEntries  = 0x10000000
)

// ringParams is struct io_uring_params.
type ringParams struct {
	Entries, CompleteEntries, Flags, ThreadCPU, ThreadIdle, Features, WorkQueue uint32
	Reserved                                                                    [3]uint32
	Submit                                                                      struct {
		Head, Tail, Mask, Entries, Flags, Dropped, Array, Reserved uint32
		Reserved2                                                  uint64
	}
	Complete struct {
		Head, Tail, Mask, Entries, Overflow, Entry, Flags, Reserved uint32
		Reserved2                                                   uint64
	}
}

// ringEntry is struct io_uring_sqe.
type ringEntry struct {
	Op, Flags     uint8
	Priority      uint16
	FD            int32
	Offset        uint64
	Address       uint64
	Len           uint32
	OpFlags       uint32
	UserData      uint64
	Buffer        uint16
	Personality   uint16
	FileIndex     uint32
	Address3, Pad uint64
}

// ring is an io_uring, driven by hand: what libraries hide is what matters here.
type ring struct {
	fd                        int
	params                    ringParams
	submit, complete, entries []byte
	kept                      []any
}

func newRing(flags uint32) (*ring, error) {
	r := &ring{params: ringParams{Flags: flags, ThreadIdle: 100}}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 8, uintptr(unsafe.Pointer(&r.params)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %s", errno.Error())
	}
	r.fd = int(fd)
	const entrySize = int(unsafe.Sizeof(ringEntry{}))
	for _, m := range []struct {
		to     *[]byte
		offset int64
		size   int
	}{
		{&r.submit, ringOffsetSubmit, int(r.params.Submit.Array + r.params.Entries*4)},
		{&r.complete, ringOffsetComplete, int(r.params.Complete.Entry + r.params.CompleteEntries*16)},
		{&r.entries, ringOffsetEntries, int(r.params.Entries) * entrySize},
	} {
		memory, err := unix.Mmap(r.fd, m.offset, m.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return nil, fmt.Errorf("mapping the ring: %s", err.Error())
		}
		*m.to = memory
	}
	return r, nil
}

func word(memory []byte, offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&memory[offset])) }

// path is a path as an entry takes it; it is kept as long as the ring.
func (r *ring) path(path string) uint64 {
	text, err := unix.BytePtrFromString(path)
	if err != nil {
		panic(err)
	}
	return r.keep(unsafe.Pointer(text), text)
}

func (r *ring) keep(p unsafe.Pointer, value any) uint64 {
	r.kept = append(r.kept, value)
	return uint64(uintptr(p))
}

// do submits one operation and waits for its result, an error of its number for a failure. Of one that skips
// success nothing is waited for but a moment.
func (r *ring) do(entry ringEntry) (int, error) {
	if err := r.start(entry); err != nil {
		return 0, err
	}
	result, err := r.await(entry.Flags&ringEntrySkipSuccess != 0)
	runtime.KeepAlive(r.kept)
	return result, err
}

// start submits one operation.
func (r *ring) start(entry ringEntry) error {
	tail := word(r.submit, r.params.Submit.Tail)
	index := *tail & *word(r.submit, r.params.Submit.Mask)
	*(*ringEntry)(unsafe.Pointer(&r.entries[uintptr(index)*unsafe.Sizeof(entry)])) = entry
	*word(r.submit, r.params.Submit.Array+index*4) = index
	atomic.AddUint32(tail, 1)
	flags, submit := uintptr(ringEnterEvents), uintptr(1)
	if r.params.Flags&ringSetupPoll != 0 {
		submit, flags = 0, 0
		if atomic.LoadUint32(word(r.submit, r.params.Submit.Flags))&ringNeedWakeUp != 0 {
			flags = ringEnterWakeUp
		}
	}
	if submit != 0 || flags != 0 {
		if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), submit, 0, flags, 0, 0); errno != 0 {
			return fmt.Errorf("io_uring_enter: %s", errno.Error())
		}
	}
	return nil
}

// table gives the ring a table for so many files that have no descriptors.
func (r *ring) table(files int) error {
	none := make([]int32, files)
	for i := range none {
		none[i] = -1
	}
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), ringRegisterFiles, uintptr(unsafe.Pointer(&none[0])), uintptr(files), 0, 0)
	if errno != 0 {
		return fmt.Errorf("io_uring_register: %s", errno.Error())
	}
	return nil
}

func (r *ring) await(silent bool) (int, error) {
	patience := 10 * time.Second
	if silent {
		patience = 50 * time.Millisecond
	}
	head := word(r.complete, r.params.Complete.Head)
	end, looks := time.Now().Add(patience), 0
	for ; atomic.LoadUint32(word(r.complete, r.params.Complete.Tail)) == *head; looks++ {
		if time.Now().After(end) {
			if silent {
				return 0, nil
			}
			return 0, errors.New("no completion")
		}
		// Work of the operation may wait for the task to enter the kernel.
		_, _, _ = unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 0, 0, ringEnterEvents, 0, 0)
		if runtime.Gosched(); looks > 100 {
			time.Sleep(time.Millisecond)
		}
	}
	index := *head & *word(r.complete, r.params.Complete.Mask)
	result := int32(binary.NativeEndian.Uint32(r.complete[r.params.Complete.Entry+index*16+8:]))
	atomic.AddUint32(head, 1)
	if result < 0 {
		return 0, unix.Errno(-result)
	}
	return int(result), nil
}

func (r *ring) close() { _ = unix.Close(r.fd) }
