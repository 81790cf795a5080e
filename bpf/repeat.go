// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/cilium/ebpf"

	"github.com/watchglass/watchglass/event"
)

const (
	// repeatWindow is how often counts of repeated opens are told, and after how long without one an open is
	// told by itself again.
	repeatWindow = 5 * time.Second
	// maxRepeatCandidates bounds the opens that were seen once and may come again.
	maxRepeatCandidates = 16384
)

// repeats is the opens that the kernel side counts instead of telling each: of files that are not watched, by a
// process that opened one before, or failed to in the same way. It is used by the goroutine of Run alone.
type repeats struct {
	kernel  *ebpf.Map
	watched func(path string) bool
	clock   *clock
	swept   time.Time
	// kept is how much of each count was told, for a tracer that takes over; nil for none.
	kept *ebpf.Map
	// opens is by what makes opens the same; order is theirs, oldest first, and may hold ones that are gone.
	opens map[fileRepeatKey]*repeatedOpen
	order []fileRepeatKey
	// counted is the opens of each process, by its start, that the kernel counts.
	counted map[uint64][]fileRepeatKey
}

// repeatedOpen is an open that was told, and may be told again by a count.
type repeatedOpen struct {
	record Record
	open   event.FileOpen
	// counted is true while the kernel counts it; told is how much of its count was told.
	counted bool
	told    uint64
}

func newRepeats(kernel *ebpf.Map, watched func(string) bool, clock *clock) *repeats {
	return &repeats{
		kernel: kernel, watched: watched, clock: clock, swept: time.Now(),
		opens: map[fileRepeatKey]*repeatedOpen{}, counted: map[uint64][]fileRepeatKey{},
	}
}

// note takes an open that was told. When it was told before, the kernel counts it from now on.
func (t *repeats) note(r *Record) {
	open, ok := r.Payload.(*event.FileOpen)
	if !ok || r.mix == 0 || open.Raced || open.Claimed && open.Error == 0 || t.isWatched(open) {
		return
	}
	// Of one that failed the path is what was asked for: where that does not say which file it is, each is told.
	if open.Error != 0 && (!path.IsAbs(open.Path) || t.watched(path.Clean(open.Path))) {
		return
	}
	key := fileRepeatKey{Mix: r.mix, Inode: open.Inode, Start: r.Task.Start, Device: open.Device, Pid: r.Task.PID}
	known := t.opens[key]
	if known == nil {
		t.remember(key, r, open)
		return
	}
	if known.counted {
		return // told before the kernel counted it
	}
	if err := t.kernel.Update(key, fileRepeat{}, ebpf.UpdateNoExist); err != nil {
		return // there is no room: it is told each time
	}
	known.counted, known.told = true, 0
	t.counted[key.Start] = append(t.counted[key.Start], key)
}

// setHashKey gives the kernel side a key that nobody in a sandbox knows. Without one it tells each open that fails.
func setHashKey(variables map[string]*ebpf.Variable) error {
	var random [16]byte
	_, _ = rand.Read(random[:]) // documented never to fail
	key := [2]uint64{binary.NativeEndian.Uint64(random[:8]) | 1, binary.NativeEndian.Uint64(random[8:])}
	if err := variables["siphash_key"].Set(key); err != nil {
		return fmt.Errorf("setting the key of hashes: %w", err)
	}
	return nil
}

func (t *repeats) isWatched(open *event.FileOpen) bool {
	return t.watched(open.Path) || open.HostPath != "" && t.watched(open.HostPath) || open.Asked != "" && t.watched(open.Asked)
}

// remember keeps an open that was seen for the first time; the oldest ones go for lack of room.
func (t *repeats) remember(key fileRepeatKey, r *Record, open *event.FileOpen) {
	for len(t.order) >= maxRepeatCandidates {
		oldest := t.order[0]
		t.order = t.order[1:]
		if o := t.opens[oldest]; o != nil && !o.counted {
			delete(t.opens, oldest)
		}
	}
	t.opens[key] = &repeatedOpen{record: *r, open: *open}
	t.order = append(t.order, key)
}

// sweep tells what was counted since the last time, once in a window.
func (t *repeats) sweep(now time.Time, handle func(*Record)) {
	if now.Sub(t.swept) < repeatWindow {
		return
	}
	t.swept = now
	for start, keys := range t.counted {
		kept := keys[:0]
		for _, key := range keys {
			o := t.opens[key]
			if told := t.tell(key, o, handle); told && !t.isWatched(&o.open) {
				kept = append(kept, key)
				continue
			}
			t.forget(key, handle)
		}
		if len(kept) == 0 {
			delete(t.counted, start)
			continue
		}
		t.counted[start] = kept
	}
}

// ended tells what was counted of a process that has ended.
func (t *repeats) ended(start uint64, handle func(*Record)) {
	for _, key := range t.counted[start] {
		t.forget(key, handle)
	}
	delete(t.counted, start)
}

// flush tells everything that was counted.
func (t *repeats) flush(handle func(*Record)) {
	for start := range t.counted {
		t.ended(start, handle)
	}
}

// tell tells how often an open was counted since it was told; false means never.
func (t *repeats) tell(key fileRepeatKey, o *repeatedOpen, handle func(*Record)) bool {
	var counted fileRepeat
	if err := t.kernel.Lookup(key, &counted); err != nil {
		return false
	}
	told := t.tellCount(o, counted, handle)
	if told && t.kept != nil {
		_ = t.kept.Put(key, o.told) // without it the next tracer counts as untold what was told
	}
	return told
}

func (t *repeats) tellCount(o *repeatedOpen, counted fileRepeat, handle func(*Record)) bool {
	n := counted.Count - o.told
	if n == 0 {
		return false
	}
	o.told = counted.Count
	r, open := o.record, o.open
	r.Time, open.Count = t.clock.wall(counted.Last), n
	r.Payload, r.Counted = &open, true
	handle(&r)
	return true
}

// forget has the kernel tell an open by itself again, and tells what it counted until then.
func (t *repeats) forget(key fileRepeatKey, handle func(*Record)) {
	var counted fileRepeat
	err := t.kernel.LookupAndDelete(key, &counted)
	if errors.Is(err, ebpf.ErrNotSupported) {
		if err = t.kernel.Lookup(key, &counted); err == nil {
			err = t.kernel.Delete(key)
		}
	}
	if err == nil {
		t.tellCount(t.opens[key], counted, handle)
	}
	delete(t.opens, key)
	if t.kept != nil {
		_ = t.kept.Delete(key) // it may not be there
	}
}

// inherit has the kernel tell each open by itself that it counts for the tracer before, and returns how many were
// counted and not told: of which path is known to nobody any more.
func (t *repeats) inherit() (untold uint64, err error) {
	var key fileRepeatKey
	var counted fileRepeat
	var keys []fileRepeatKey
	entries := t.kernel.Iterate()
	for entries.Next(&key, &counted) {
		keys = append(keys, key)
	}
	if err := entries.Err(); err != nil {
		return 0, fmt.Errorf("listing the opens that are counted: %w", err)
	}
	for _, key := range keys {
		err := t.kernel.LookupAndDelete(key, &counted)
		if errors.Is(err, ebpf.ErrNotSupported) {
			if err = t.kernel.Lookup(key, &counted); err == nil {
				err = t.kernel.Delete(key)
			}
		}
		if err != nil {
			return untold, fmt.Errorf("ending the count of an open: %w", err)
		}
		var told uint64
		if err := t.kept.Lookup(key, &told); err == nil {
			_ = t.kept.Delete(key)
		}
		untold += counted.Count - min(told, counted.Count)
	}
	return untold, nil
}
