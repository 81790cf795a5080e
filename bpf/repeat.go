// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"crypto/rand"
	"encoding/binary"
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
	kernel  countedOpens
	watched func(path string) bool
	clock   *clock
	swept   time.Time
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
	// counted is true while the kernel counts it, at a place.
	counted bool
	place   uint32
}

func newRepeats(kernel countedOpens, watched func(string) bool, clock *clock) *repeats {
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
	place, ok := t.kernel.begin(key, r.Sandbox)
	if !ok {
		return // there is no room: it is told each time
	}
	known.counted, known.place = true, place
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
			if t.tell(o, handle) && !t.isWatched(&o.open) {
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
func (t *repeats) tell(o *repeatedOpen, handle func(*Record)) bool {
	counted, err := t.kernel.counted(o.place)
	if err != nil || counted.Count == 0 {
		return false
	}
	r, open := o.record, o.open
	r.Time, open.Count = t.clock.wall(counted.Last), counted.Count
	r.Payload, r.Counted = &open, true
	handle(&r)
	// After that: who takes over from a tracer that ends here may tell it again, and loses nothing.
	return t.kernel.told(o.place, counted.Count, false) == nil
}

// forget has the kernel tell an open by itself again, and tells what it counted until then.
func (t *repeats) forget(key fileRepeatKey, handle func(*Record)) {
	o := t.opens[key]
	if t.kernel.told(o.place, 0, true) == nil {
		t.tell(o, handle)
	}
	delete(t.opens, key)
}

// inherit has the kernel tell each open by itself that it counts for the tracer before, and returns how many were
// counted and not told: of which path is known to nobody any more.
func (t *repeats) inherit() (untold uint64, err error) {
	var place uint32
	var counted fileRepeat
	var places []uint32
	entries := t.kernel.places.Iterate()
	for entries.Next(&place, &counted) {
		if counted.Key.Mix != 0 {
			places = append(places, place)
		}
	}
	if err := entries.Err(); err != nil {
		return 0, fmt.Errorf("listing the opens that are counted: %w", err)
	}
	for _, place := range places {
		if err := t.kernel.told(place, 0, true); err != nil {
			return untold, err
		}
		counted, err := t.kernel.counted(place)
		if err == nil {
			err = t.kernel.told(place, counted.Count, false)
		}
		if err != nil {
			return untold, err
		}
		untold += counted.Count
	}
	return untold, nil
}

// countedOpens is the kernel side's table of opens that it counts.
type countedOpens struct {
	places *ebpf.Map
	// take gives an open a place, settle says that it was told, and may free the place.
	take, settle *ebpf.Program
}

// newCountedOpens is that of a probe; false where it has none.
func newCountedOpens(c *ebpf.Collection) (countedOpens, bool) {
	k := countedOpens{places: c.Maps["repeats"], take: c.Programs["file_repeat_begin"], settle: c.Programs["file_repeat_told"]}
	return k, k.places != nil && k.take != nil && k.settle != nil
}

// begin has an open counted that a process in a sandbox makes; false where there is no room.
func (k *countedOpens) begin(key fileRepeatKey, sandbox uint64) (place uint32, ok bool) {
	n, err := k.take.Run(&ebpf.RunOptions{Context: [5]uint64{
		key.Mix, key.Inode, key.Start, uint64(key.Device) | uint64(key.Pid)<<32, sandbox,
	}})
	return n - 1, err == nil && n != 0
}

// counted is what was counted at a place and not told.
func (k *countedOpens) counted(place uint32) (counted fileRepeat, err error) {
	if err := k.places.Lookup(place, &counted); err != nil {
		return counted, fmt.Errorf("reading how often an open was counted: %w", err)
	}
	return counted, nil
}

// told says that so many of those that were counted at a place were told; end frees the place.
func (k *countedOpens) told(place uint32, n uint64, end bool) error {
	arguments := [3]uint64{uint64(place), n}
	if end {
		arguments[2] = 1
	}
	if _, err := k.settle.Run(&ebpf.RunOptions{Context: arguments}); err != nil {
		return fmt.Errorf("saying that counted opens were told: %w", err)
	}
	return nil
}
