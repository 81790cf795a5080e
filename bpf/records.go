// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Of the header that the kernel puts before each record (BPF_RINGBUF_*_BIT): its length, and what became of it.
const (
	ringHeaderSize = 8
	ringBusy       = 1 << 31
	ringDiscarded  = 1 << 30
)

// errRing is a ring whose lengths do not add up: nothing can be read of it any more.
var errRing = errors.New("the ring is damaged")

// recordRing is the reading side of the ring buffer. It is not the library's reader, since that gives a record's
// room back as it hands the record out; here it stays in the ring until release, so that what a killed
// collector had read and not yet written down is there for the next one. Positions count bytes since the
// ring was made, so that they name a record for as long as the ring lives.
type recordRing struct {
	// pages is the consumer's page, then the producer's page with the data after it, twice in a row.
	consumerPage, producerPages []byte
	consumer, producer          *atomic.Uint64
	data                        []byte
	mask                        uint64
	// wakes is an epoll instance, which becomes readable when the kernel side wakes the reader.
	wakes *os.File
	raw   syscall.RawConn
	// at is where reading goes on.
	at uint64
}

// openRecords maps the ring, and begins where the last reader gave room back.
func openRecords(m *ebpf.Map) (*recordRing, error) {
	page, size := os.Getpagesize(), int(m.MaxEntries())
	r := &recordRing{mask: uint64(size) - 1}
	var err error
	if r.consumerPage, err = unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("mapping the reader's position: %w", err)
	}
	if r.producerPages, err = unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(fmt.Errorf("mapping the ring: %w", err), r.close())
	}
	r.consumer, r.producer, r.data = word64(r.consumerPage), word64(r.producerPages), r.producerPages[page:]
	r.at = r.consumer.Load()
	if err := r.openWakes(m.FD()); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing to wait for records: %w", err), r.close())
	}
	return r, nil
}

// openWakes makes what wait waits for.
func (r *recordRing) openWakes(ring int) error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("creating an epoll instance: %w", err)
	}
	// That it does not block has the runtime's poller wait for it. A thread that blocks in a system call for some milliseconds
	// would have the runtime look after it every 20 µs: that took a fifth of the collector's time.
	if err := unix.SetNonblock(epoll, true); err != nil {
		return errors.Join(err, unix.Close(epoll))
	}
	r.wakes = os.NewFile(uintptr(epoll), "epoll")
	// By edge: as long as records are kept in it the ring is never empty to the kernel.
	what := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(ring)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, ring, &what); err != nil {
		return fmt.Errorf("adding the ring to the epoll instance: %w", err)
	}
	r.raw, err = r.wakes.SyscallConn()
	return err
}

// next is the next record's bytes, which are good until release gives their room back, and nil when there
// is none yet.
func (r *recordRing) next() ([]byte, error) {
	data, after, err := r.look(r.at)
	r.at = after
	return data, err
}

// look is the first record from a position on, and where the one after it begins.
func (r *recordRing) look(at uint64) (data []byte, after uint64, err error) {
	for end := r.producer.Load(); at < end; {
		if end-at > r.mask+1 || at%ringHeaderSize != 0 {
			return nil, at, errRing
		}
		length := word32(r.data[at&r.mask:]).Load()
		if length&ringBusy != 0 {
			return nil, at, nil
		}
		n := uint64(length &^ (ringBusy | ringDiscarded))
		whole := ringHeaderSize + (n+7)&^7
		if whole > end-at {
			return nil, at, errRing
		}
		start := at&r.mask + ringHeaderSize
		at += whole
		if length&ringDiscarded == 0 {
			return r.data[start : start+n : start+n], at, nil
		}
	}
	return nil, at, nil
}

// release gives the room of the records before a position back. Positions that were released, or were not read
// yet, are let be.
func (r *recordRing) release(position uint64) {
	if position > r.consumer.Load() && position <= r.at {
		r.consumer.Store(position)
	}
}

// wait waits until the kernel side wakes the reader, or it is interrupted, or ended says that nothing is to be waited for.
func (r *recordRing) wait(most time.Duration, ended func() bool) error {
	if err := r.wakes.SetReadDeadline(time.Now().Add(most)); err != nil {
		return fmt.Errorf("setting how long to wait for records: %w", err)
	}
	// Who ends it says so first and interrupts then: either it is seen here, or the deadline is brought forward after it was set.
	if ended() {
		return nil
	}
	var failed error
	err := r.raw.Read(func(epoll uintptr) (woken bool) {
		var events [1]unix.EpollEvent
		n, err := unix.EpollWait(int(epoll), events[:], 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			failed = err
		}
		return n != 0 || failed != nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("waiting for records: %w", err)
	}
	return nil
}

// interruptedBy has a wait that goes on end with a context. Of one that begins later its condition is to say so. When stop has
// returned nobody touches the ring any more.
func (r *recordRing) interruptedBy(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	prevented := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = r.wakes.SetReadDeadline(time.Unix(1, 0)) // where it fails the wait does
	})
	return func() {
		if !prevented() {
			<-done
		}
	}
}

// size is the ring's size, used how much of it is taken, unread how much of that was not read yet.
func (r *recordRing) size() uint64   { return r.mask + 1 }
func (r *recordRing) used() uint64   { return r.producer.Load() - r.consumer.Load() }
func (r *recordRing) unread() uint64 { return r.producer.Load() - r.at }

func (r *recordRing) close() error {
	var errs []error
	if r.consumerPage != nil {
		errs = append(errs, unix.Munmap(r.consumerPage))
	}
	if r.producerPages != nil {
		errs = append(errs, unix.Munmap(r.producerPages))
	}
	if r.wakes != nil {
		errs = append(errs, r.wakes.Close())
	}
	r.consumerPage, r.producerPages, r.wakes = nil, nil, nil
	return errors.Join(errs...)
}
