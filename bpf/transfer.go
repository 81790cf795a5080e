// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"time"

	"github.com/cilium/ebpf"

	"github.com/watchglass/watchglass/event"
)

const (
	// transferSweep is how often the kernel's counters are looked at: a file that was closed is told so soon.
	transferSweep = time.Second
	// transferIdle is after how many looks that found no change a file counts as closed, and transferLong after
	// how many one that is in use is told so far.
	transferIdle, transferLong = 30, 60
	// transferBatch is how many counters are read at once.
	transferBatch = 1024
	// transferSmall is the bytes from which on what was read of a file that is not watched is told by itself. The kernel
	// side has the same bound (TRANSFER_SMALL).
	transferSmall = 64 << 10
)

// Marks of the kernel's counters (enum transfer_marks).
const (
	transferMapped = 1 << iota
	transferURing
	transferAsked
)

// FileUse is the first use of a file by a process: its path for the counts that follow, as *event.FileIO.
type FileUse struct {
	IO event.FileIO
}

// transfers is what processes read and write of files, as the kernel counts it. It is used by the goroutine of Run
// alone.
type transfers struct {
	// kernel is the counters by file, and those of files that found no room, by process.
	kernel [2]*ebpf.Map
	// movings is where most of it is counted, besides.
	movings *movings
	// watched is nil where every file is told by itself, and plain with it.
	watched func(path string) bool
	plain   *plainFiles
	swept   time.Time
	// files is the files in use, processes those who use them, by their start.
	files     map[fileTransferKey]*transferred
	processes map[uint64]*transferring
	// looks is how often the kernel's counters were read; keys and counts are room for it.
	looks  uint64
	keys   []fileTransferKey
	counts []fileTransfer
}

// transferring is what a process uses.
type transferring struct {
	keys []fileTransferKey
	// small is what is told together, nil for nothing.
	small *Record
}

// transferred is a file that a process uses.
type transferred struct {
	record Record
	io     event.FileIO
	// seen is the counts at the last look, and look which one that was.
	seen fileTransfer
	look uint64
	// still and long are looks since the last change, and since it was told.
	still, long int
	// unnamed is true while no record has told its path, which may still wait in the ring.
	unnamed bool
}

func newTransfers(kernel [2]*ebpf.Map, movings *movings, watched func(string) bool) *transfers {
	return &transfers{
		kernel: kernel, movings: movings, watched: watched, swept: time.Now(),
		files: map[fileTransferKey]*transferred{}, processes: map[uint64]*transferring{},
		keys: make([]fileTransferKey, transferBatch), counts: make([]fileTransfer, transferBatch),
	}
}

// note takes the first use of a file.
func (t *transfers) note(r *Record) {
	use, ok := r.Payload.(*FileUse)
	if !ok {
		return
	}
	if t.plain != nil {
		t.plain.note(r, &use.IO)
	}
	key := fileTransferKey{Inode: use.IO.Inode, Start: r.Task.Start, Device: use.IO.Device, Pid: r.Task.PID}
	t.adopt(key, &transferred{record: *r, io: use.IO})
}

// adopt keeps a file under its key. One that is there already was told by two threads at once, or was counted among
// the unknown before its record was read: then it gets its name.
func (t *transfers) adopt(key fileTransferKey, f *transferred) {
	if known := t.files[key]; known != nil {
		known.record, known.io, known.unnamed = f.record, f.io, false
		return
	}
	t.files[key] = f
	p := t.processes[key.Start]
	if p == nil {
		p = &transferring{}
		t.processes[key.Start] = p
	}
	p.keys = append(p.keys, key)
}

// sweep tells of the files that were closed or are idle, and now and then of the others.
func (t *transfers) sweep(now time.Time, handle func(*Record)) {
	if now.Sub(t.swept) < transferSweep {
		return
	}
	t.swept = now
	for _, place := range t.read(now) {
		t.movings.free(place, t.looks)
	}
	if t.plain != nil {
		t.plain.sweep(now)
	}
	for start := range t.processes {
		t.tellProcess(start, now, handle, false, func(f *transferred) bool {
			f.long++
			// What the kernel no longer has is told and forgotten, as what is over.
			return f.look != t.looks || f.seen.Closed != 0 && !f.unnamed || f.still >= transferIdle || f.long >= transferLong
		})
	}
}

// read notes what the kernel has counted by now, and adopts counters that no record told of: what found no room, and what
// was begun by an earlier collector. It returns the places that hold nothing and whose files are not known.
func (t *transfers) read(now time.Time) (unused []int) {
	t.looks++
	known := func(key *fileTransferKey) bool { return t.files[*key] != nil }
	// Before the counters are: who takes a place has some by then.
	unknown := t.movings.unknown(known)
	for _, m := range t.kernel {
		// What cannot be read is taken for over: it is told early then, and not lost.
		_ = eachEntry(m, t.keys, t.counts, func(key fileTransferKey, counted *fileTransfer) { t.noteCounts(key, counted, now) })
	}
	for _, place := range unknown {
		p := &t.movings.places[place]
		switch key := p.Key; {
		case known(&key):
		case p.holds():
			// Whoever took the counters did not get to this; or it was counted since.
			t.adoptUnnamed(key, p.Sandbox, now)
		default:
			unused = append(unused, place)
		}
	}
	return unused
}

// noteCounts notes what the kernel has counted of a file.
func (t *transfers) noteCounts(key fileTransferKey, counted *fileTransfer, now time.Time) {
	f := t.files[key]
	if f == nil {
		f = t.adoptUnnamed(key, counted.Sandbox, now)
	}
	counted.unpack()
	t.movings.counted(&key, counted)
	f.look = t.looks
	f.still++
	if *counted != f.seen {
		f.still, f.seen = 0, *counted
	}
}

// adoptUnnamed keeps a file of which no record has told the path.
func (t *transfers) adoptUnnamed(key fileTransferKey, sandbox uint64, now time.Time) *transferred {
	r := Record{Time: now, Sandbox: sandbox, Cgroup: sandbox, Task: Task{PID: key.Pid, TID: key.Pid, Start: key.Start}}
	if same := t.processes[key.Start]; same != nil && len(same.keys) > 0 {
		r = t.files[same.keys[0]].record
	}
	r.Payload = nil
	f := &transferred{record: r, io: event.FileIO{Inode: key.Inode, Device: key.Device}, unnamed: true}
	t.adopt(key, f)
	return f
}

// unpack adds to the sums what the kernel side has not yet.
func (c *fileTransfer) unpack() {
	addPacked(c.Reading, &c.Read, &c.Reads)
	addPacked(c.Writing, &c.Written, &c.Writes)
	c.Reading, c.Writing = 0, 0
}

// addPacked adds what a word of the kernel side stands for: bytes in its lower bits, and above them calls (transfer_pack).
func addPacked(word uint64, bytes, calls *uint64) {
	const bits = fileTransferPackingTRANSFER_BYTE_BITS
	*bytes += word & (1<<bits - 1)
	*calls += word >> bits
}

// ended tells of all files of a process that has ended.
func (t *transfers) ended(exit *Record, handle func(*Record)) {
	rest := fileTransferKey{Start: exit.Task.Start, Pid: exit.Task.PID}
	if t.files[rest] == nil {
		t.adopt(rest, &transferred{record: *exit})
	}
	t.end(exit.Task.Start, exit.Time, handle)
}

// executed tells of the files that a process used as the program that it was: what comes is another's. An exec closes
// descriptors too, and the kernel side does not look which.
func (t *transfers) executed(exec *Record, handle func(*Record)) {
	t.tellProcess(exec.Task.Start, exec.Time, handle, false, func(f *transferred) bool { return !f.unnamed })
}

func (t *transfers) end(start uint64, at time.Time, handle func(*Record)) {
	t.tellProcess(start, at, handle, true, func(*transferred) bool { return true })
	delete(t.processes, start)
}

// flush tells everything that was counted.
func (t *transfers) flush(now time.Time, handle func(*Record)) {
	t.read(now)
	for start := range t.processes {
		t.end(start, now, handle)
	}
}

// tellProcess tells of the files of a process that are due, those that are small together once they are not. closed says that
// it has let go of all of them.
func (t *transfers) tellProcess(start uint64, at time.Time, handle func(*Record), closed bool, due func(*transferred) bool) {
	p := t.processes[start]
	if p == nil {
		return
	}
	kept := p.keys[:0]
	for _, key := range p.keys {
		f := t.files[key]
		if !due(f) {
			kept = append(kept, key)
			continue
		}
		// The kernel forgets it, so that nothing is told twice, by a later collector either. It begins anew with the
		// next use. Where it is gone, or never was, nothing was counted.
		if counted, ok := t.take(&key); ok {
			if closed {
				counted.Closed = 1
			}
			t.tell(p, f, counted, at, handle)
		}
		delete(t.files, key)
	}
	if p.keys = kept; len(kept) == 0 && p.small == nil {
		delete(t.processes, start)
	}
}

// take takes what was counted of a file; false means nothing.
func (t *transfers) take(key *fileTransferKey) (counted fileTransfer, ok bool) {
	place := t.movings.of(key)
	if place != nil {
		place.leave()
	}
	if ok = takeEntry(t.of(*key), key, &counted) == nil; ok {
		counted.unpack()
	}
	// After that: once more since the file may have been noted meanwhile.
	if place != nil && place.take(&counted) {
		ok = true
	}
	return counted, ok
}

// tell tells what was counted since the last time, by itself or added to what is told together.
func (t *transfers) tell(p *transferring, f *transferred, counted fileTransfer, at time.Time, handle func(*Record)) {
	io := f.io
	io.Read, io.Written, io.Reads, io.Writes = counted.Read, counted.Written, counted.Reads, counted.Writes
	io.Mapped, io.Open = counted.Marks&transferMapped != 0, counted.Closed == 0
	if counted.Marks&transferURing != 0 {
		io.Via = event.ViaURing
	}
	io.Asked = counted.Marks&transferAsked != 0
	if io.Reads+io.Writes == 0 && !io.Mapped {
		return
	}
	r := f.record
	r.Time, r.Counted, r.Position, r.Ring = at, true, 0, 0
	if io.Inode != 0 && !t.isSmall(&io) {
		r.Payload = &io
		handle(&r)
		return
	}
	if p.small == nil {
		r.Payload = &event.FileIO{}
		p.small = &r
	}
	sum := p.small.Payload.(*event.FileIO) //nolint:forcetypeassert // made above
	sum.Files++
	sum.Read, sum.Written, sum.Reads, sum.Writes = sum.Read+io.Read, sum.Written+io.Written, sum.Reads+io.Reads, sum.Writes+io.Writes
	sum.Mapped, sum.Open, sum.Asked = sum.Mapped || io.Mapped, sum.Open || io.Open, sum.Asked || io.Asked
	if io.Via != "" {
		sum.Via = io.Via
	}
	if p.small.Time = at; sum.Read >= transferSmall || sum.Written > 0 {
		handle(p.small)
		p.small = nil
	}
}

// isSmall says whether a file is told together with others: little was read of it, nothing written, and it is not
// watched. What of that is little too when the process ends is not told: its end tells what it read in all.
func (t *transfers) isSmall(io *event.FileIO) bool {
	return t.watched != nil && io.Written == 0 && io.Read < transferSmall &&
		!t.watched(io.Path) && (io.HostPath == "" || !t.watched(io.HostPath))
}

// of is the map that has a key.
func (t *transfers) of(key fileTransferKey) *ebpf.Map {
	if key.Inode == 0 {
		return t.kernel[1]
	}
	return t.kernel[0]
}
