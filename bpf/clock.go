// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of the clock's conversion.
const (
	// clockInterval is how often the offset is measured again.
	clockInterval = time.Second
	// clockTolerance is how far the offset may drift before a new one is taken: times of one process
	// stay comparable to the nanosecond until the wall clock really moved.
	clockTolerance = 200 * time.Microsecond
	// clockStretches is how many offsets are kept: records that wait in the ring while the wall clock is set are told with
	// the time that it showed then.
	clockStretches = 16
)

// clock converts the kernel's boot clock, which never steps and counts suspends, to wall-clock time. Each moment is converted
// by what the wall clock showed at that moment, though it may have been set since. How long after it was set that is noticed
// depends on the scheduler alone: what happens in between is converted as before.
type clock struct {
	// stretches is never empty, and what it points to does not change: the oldest comes first.
	stretches atomic.Pointer[[]clockStretch]
	// mu orders those who measure.
	mu sync.Mutex
	// measured is when that was last done, in nanoseconds of the boot clock. Only the goroutine that calls refresh uses it.
	measured int64
	// sets tells that the wall clock was set; nil where nobody listens.
	sets *os.File
}

// clockStretch is a time in which the wall clock ran as the boot clock does.
type clockStretch struct {
	// since is when it began, in nanoseconds of the boot clock.
	since int64
	// offset is wall-clock nanoseconds since 1970 minus boot-clock nanoseconds.
	offset int64
}

// newClock measures the offset for the first time.
func newClock() (*clock, error) {
	c := &clock{}
	offset, boot, err := measureOffset()
	if err != nil {
		return nil, err
	}
	c.stretches.Store(&[]clockStretch{{since: boot, offset: offset}})
	c.measured = boot
	return c, nil
}

// watch has steps of the wall clock noticed when they happen, until close. Where that fails, refresh notices them.
func (c *clock) watch() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("creating a timer that tells when the clock is set: %w", err)
	}
	sets := os.NewFile(uintptr(fd), "timerfd")
	// A timer that runs out in a far future, unless the clock is set before.
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 32}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
		_ = sets.Close()
		return fmt.Errorf("asking for when the clock is set: %w", err)
	}
	// It may have been set since it was measured.
	if err := c.measure(); err != nil {
		_ = sets.Close()
		return err
	}
	c.sets = sets
	go func() {
		var ticks [8]byte
		for {
			if _, err := sets.Read(ticks[:]); !errors.Is(err, unix.ECANCELED) {
				return
			}
			_ = c.measure() // refresh tries again
		}
	}()
	return nil
}

// close ends watch.
func (c *clock) close() {
	if c.sets != nil {
		_ = c.sets.Close()
		c.sets = nil
	}
}

// refresh follows the wall clock where it is made to run faster or slower than the boot clock. It is cheap to call often.
func (c *clock) refresh() {
	boot, err := readClock(unix.CLOCK_BOOTTIME)
	if err != nil || boot-c.measured < int64(clockInterval) {
		return
	}
	c.measured = boot
	_ = c.measure() // a second later it is tried again
}

// measure begins another stretch where the wall clock has moved.
func (c *clock) measure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	offset, boot, err := measureOffset()
	if err != nil {
		return err
	}
	c.move(offset, boot)
	return nil
}

// move has the offset be another one from a moment of the boot clock on, where it is.
func (c *clock) move(offset, boot int64) {
	known := *c.stretches.Load()
	if drift := offset - known[len(known)-1].offset; drift <= int64(clockTolerance) && drift >= -int64(clockTolerance) {
		return
	}
	known = append(slices.Clone(known), clockStretch{since: boot, offset: offset})
	known = known[max(0, len(known)-clockStretches):]
	c.stretches.Store(&known)
}

// wall is a moment of the boot clock as wall-clock time, as the wall clock showed it then; the zero time for 0. Of a moment
// before all that is known it is what would have been shown if it had run as at the beginning of that.
func (c *clock) wall(boot uint64) time.Time {
	if boot == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(boot)+c.offsetAt(boot))
}

func (c *clock) offsetAt(boot uint64) int64 {
	known := *c.stretches.Load()
	for i := len(known) - 1; i > 0; i-- {
		if int64(boot) >= known[i].since {
			return known[i].offset
		}
	}
	return known[0].offset
}

// measureOffset reads both clocks close together, a few times, and keeps the closest pair.
func measureOffset() (offset, boot int64, err error) {
	best := int64(1) << 62
	for range 5 {
		before, err := readClock(unix.CLOCK_BOOTTIME)
		if err != nil {
			return 0, 0, err
		}
		wall, err := readClock(unix.CLOCK_REALTIME)
		if err != nil {
			return 0, 0, err
		}
		after, err := readClock(unix.CLOCK_BOOTTIME)
		if err != nil {
			return 0, 0, err
		}
		if after-before < best {
			best = after - before
			boot = before + best/2
			offset = wall - boot
		}
	}
	return offset, boot, nil
}

func readClock(id int32) (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, fmt.Errorf("reading clock %d: %w", id, err)
	}
	return ts.Nano(), nil
}
