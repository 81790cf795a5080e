// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
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
)

// clock converts the kernel's boot clock, which never steps and counts suspends, to wall-clock time.
type clock struct {
	// offset is wall-clock nanoseconds since 1970 minus boot-clock nanoseconds.
	offset atomic.Int64
	// measured is when, in nanoseconds of the boot clock. Only the goroutine that calls refresh uses it.
	measured int64
}

// newClock measures the offset for the first time.
func newClock() (*clock, error) {
	c := &clock{}
	offset, boot, err := measureOffset()
	if err != nil {
		return nil, err
	}
	c.offset.Store(offset)
	c.measured = boot
	return c, nil
}

// refresh follows steps of the wall clock. It is cheap to call often.
func (c *clock) refresh() {
	boot, err := readClock(unix.CLOCK_BOOTTIME)
	if err != nil || boot-c.measured < int64(clockInterval) {
		return
	}
	offset, boot, err := measureOffset()
	if err != nil {
		return
	}
	c.measured = boot
	if drift := offset - c.offset.Load(); drift > int64(clockTolerance) || drift < -int64(clockTolerance) {
		c.offset.Store(offset)
	}
}

// wall is a moment of the boot clock as wall-clock time; the zero time for 0.
func (c *clock) wall(boot uint64) time.Time {
	if boot == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(boot)+c.offset.Load())
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
