// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// file is what the writer does to a segment. Tests put slow and full disks behind it.
type file interface {
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

// opener opens a segment to write, made anew with os.O_CREATE.
type opener func(path string, flag int) (file, error)

func openFile(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a segment: %w", err)
	}
	return f, nil
}

// laneWriter appends to one lane. It is used by one goroutine at a time, but for what says otherwise.
type laneWriter struct {
	lane Lane
	dir  string // the journal's
	cfg  *Config
	open opener
	id   [16]byte
	// epoch is this start's number.
	epoch uint32
	// onEvict is told of a segment before it is removed.
	onEvict func(lane Lane, s *segment)
	// note publishes what changed for readers.
	note func(l *laneWriter)

	// segments is all, the one being written last.
	segments []segment
	file     file // nil when none is open
	seed     uint32
	offset   int64
	chain    chain
	next     chain  // after what is being made
	head     uint64 // the next record's ordinal, but for what is lacking
	lacking  uint32 // records before the next that a crash took: the lane is to tell of them first
	total    int64  // bytes of all segments
	begun    time.Time
	// accounted is what the next frame says of it.
	accounted uint64
	unsigned  bool // something was appended since the last checkpoint
	// marker says up to which place of the kernel's ring the lane is written.
	marker *marker
	// unrecorded is evictions that the lane does not tell of yet, for lack of room.
	unrecorded [][]byte

	known     map[uint64][]knownResource
	resources uint32
	fresh     []uint64 // what known got with the frame being made
	hash      maphash.Seed

	compressor   *zstd.Encoder
	decompressor *zstd.Decoder // while the lane is opened
	raw          []byte
	out          []byte
	records      recordState

	// syncing is held while the file is forced to the disk, and while it is closed.
	syncing sync.Mutex
	dirty   bool // guarded by syncing
}

type knownResource struct {
	number uint32
	resource
}

// appendEvents writes events, all of this lane, and returns how many of the first are written.
func (l *laneWriter) appendEvents(events []event.Encoded) (int, error) {
	done := 0
	for done < len(events) {
		n, err := l.appendFrame(events[done:])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// appendFrame writes as many of the first events as a frame is to have.
func (l *laneWriter) appendFrame(events []event.Encoded) (int, error) {
	size, n := 0, 0
	for n < len(events) && (n == 0 || size+len(events[n].Record) <= frameTarget) {
		size += len(events[n].Record)
		n++
	}
	// What one record made is written at once, so that a crash leaves all of it or nothing.
	for n < len(events) && events[n].Place.Ring != 0 && events[n].Place == events[n-1].Place && size+len(events[n].Record) <= maxRecord {
		size += len(events[n].Record)
		n++
	}
	events = events[:n]
	// Room is made for what the frame needs uncompressed: it is the most that it can need.
	if err := l.ready(int64(size) + int64(n)*(64+int64(len(events[0].Resource))) + frameOverhead); err != nil {
		return 0, err
	}
	now := time.Now().UnixNano()
	l.next = l.chain
	l.out, l.raw, l.records, l.fresh = l.out[:0], l.raw[:0], recordState{}, l.fresh[:0]
	h := frameHeader{kind: frameRecords, count: uint32(n), ordinal: l.head, written: now}
	for i := range events {
		e := &events[i]
		number := l.number(e, now)
		l.raw = l.records.append(l.raw, e, number)
		at := e.Time.UnixNano()
		if i == 0 || at < h.first {
			h.first = at
		}
		if i == 0 || at > h.last {
			h.last = at
		}
		h.severity = max(h.severity, e.Severity)
	}
	l.addFrame(&h, l.raw)
	next, marked := mark{}, lastPlace(events)
	if marked.Ring != 0 {
		next = l.marker.intend(l.head+uint64(n), marked)
	}
	if err := l.write(); err != nil {
		l.unlearn()
		return 0, err
	}
	l.head += uint64(n)
	if marked.Ring != 0 {
		l.marker.reached(next)
	}
	l.unsigned = true
	l.note(l)
	return n, nil
}

// number is the number of an event's resource in this segment; a new one gets a frame.
func (l *laneWriter) number(e *event.Encoded, now int64) uint32 {
	key := l.key(&resource{sandbox: e.Sandbox, instance: e.Instance, bytes: e.Resource})
	for _, k := range l.known[key] {
		if k.sandbox == e.Sandbox && k.instance == e.Instance && bytes.Equal(k.bytes, e.Resource) {
			return k.number
		}
	}
	h := frameHeader{kind: frameResource, ordinal: uint64(l.resources), written: now}
	r := &resource{sandbox: e.Sandbox, instance: e.Instance, bytes: bytes.Clone(e.Resource)}
	l.addFrame(&h, r.append(nil))
	l.fresh = append(l.fresh, key)
	return l.learn(r)
}

func (l *laneWriter) key(r *resource) uint64 {
	return maphash.Bytes(l.hash, r.bytes) ^ maphash.String(l.hash, r.instance) ^ 31*maphash.String(l.hash, r.sandbox)
}

// learn gives a resource the next number.
func (l *laneWriter) learn(r *resource) uint32 {
	key := l.key(r)
	number := l.resources
	l.resources++
	l.known[key] = append(l.known[key], knownResource{number: number, resource: *r})
	return number
}

// unlearn forgets the resources of a frame that could not be written.
func (l *laneWriter) unlearn() {
	for _, key := range l.fresh {
		l.known[key] = l.known[key][:len(l.known[key])-1]
		l.resources--
	}
	l.fresh = l.fresh[:0]
}

// compressFrom is from what size on a payload is worth compressing.
const compressFrom = 96

// addFrame appends a whole frame to what is to be written.
func (l *laneWriter) addFrame(h *frameHeader, payload []byte) {
	h.epoch, h.accounted = l.epoch, l.accounted
	h.raw = uint32(len(payload))
	start := len(l.out)
	l.out = append(l.out, make([]byte, frameHeaderSize)...)
	body := len(l.out)
	if len(payload) >= compressFrom {
		l.out = l.compressor.EncodeAll(payload, l.out)
		h.flags = flagZstd
	}
	if h.flags == 0 || len(l.out)-body >= len(payload) {
		l.out, h.flags = append(l.out[:body], payload...), 0
	}
	h.stored = uint32(len(l.out) - body)
	h.append(l.out[:start], l.seed)
	l.next.add(l.out[start:body], l.out[body:])
	l.out = append(l.out, l.next.sum[:]...)
	l.out = binary.LittleEndian.AppendUint32(l.out, castagnoli(le32(l.out[body-4:]), l.out[body:]))
}

// write puts what was made at the end of the file. What a failed write left is taken back.
func (l *laneWriter) write() error {
	if _, err := l.file.WriteAt(l.out, l.offset); err != nil {
		_ = l.file.Truncate(l.offset) // it may fail too; the next write begins at the same place
		return fmt.Errorf("append to %s: %w", l.active().path, err)
	}
	l.chain = l.next
	l.offset += int64(len(l.out))
	l.total += int64(len(l.out))
	a := l.active()
	a.size, a.born = l.offset, time.Now()
	l.syncing.Lock()
	l.dirty = true
	l.syncing.Unlock()
	if cap(l.out) > 4*frameTarget { // one huge event must not keep its memory for ever
		l.out, l.raw = nil, nil
	}
	return nil
}

// control writes a frame that is not of events.
func (l *laneWriter) control(kind frameType, payload []byte, count uint32) error {
	l.out = l.out[:0]
	l.next = l.chain
	h := frameHeader{kind: kind, count: count, ordinal: l.head, written: time.Now().UnixNano()}
	l.addFrame(&h, payload)
	return l.write()
}

func (l *laneWriter) active() *segment { return &l.segments[len(l.segments)-1] }

// ready sees to it that a segment is open which has room for so many bytes, and the lane's budget too.
func (l *laneWriter) ready(need int64) error {
	for l.total+need > l.cfg.budget(l.lane) && l.evictable() {
		l.evict()
	}
	if err := l.room(need); err != nil || l.lacking == 0 {
		return err
	}
	if err := l.control(frameGap, nil, l.lacking); err != nil {
		return err
	}
	l.head, l.lacking = l.end(), 0
	return nil
}

// end is the next record's ordinal.
func (l *laneWriter) end() uint64 { return l.head + uint64(l.lacking) }

// room sees to it that a segment is open which has room for so many bytes.
func (l *laneWriter) room(need int64) error {
	// One without records cannot be full, whatever it tells of evictions: a next one would have its name.
	full := l.file != nil && l.head > l.active().base &&
		(l.offset+need > l.cfg.SegmentBytes || l.resources >= maxResources)
	if l.file != nil && !full {
		return nil
	}
	return l.rotate()
}

// rotate begins a new segment.
func (l *laneWriter) rotate() error {
	h := segmentHeader{
		version: Version, lane: l.lane, base: l.head, created: time.Now().UnixNano(), journal: l.id, previous: l.chain.sum,
	}
	path := segmentPath(l.dir, l.lane, l.head)
	created, err := l.open(path, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	header := h.append(nil)
	if _, err := created.WriteAt(header, 0); err != nil {
		_ = created.Close()
		_ = os.Remove(path)
		return fmt.Errorf("begin the segment %s: %w", path, err)
	}
	if l.lane == Priority {
		reserveRoom(created, l.cfg.SegmentBytes)
	}
	sealErr := l.seal()
	l.syncing.Lock()
	l.file = created
	l.syncing.Unlock()
	l.offset, l.seed = segmentHeaderSize, le32(header[12:])
	l.chain.start(header)
	clear(l.known)
	l.resources, l.begun = 0, time.Now()
	l.total += segmentHeaderSize
	l.segments = append(l.segments, segment{
		path: path, base: l.head, size: segmentHeaderSize, previous: h.previous, born: l.begun,
	})
	l.note(l)
	if l.cfg.Sync != SyncNever {
		sealErr = errors.Join(sealErr, syncDir(filepath.Dir(path)))
	}
	if sealErr != nil {
		return fmt.Errorf("begin the segment %s: %w", path, sealErr)
	}
	return l.recordEvictions()
}

// reserveRoom has the disk keep room for a segment, so that findings can be written when it is full. Not
// every file system can.
func reserveRoom(f file, size int64) {
	if described, ok := f.(interface{ Fd() uintptr }); ok {
		_ = unix.Fallocate(int(described.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	}
}

// seal ends the segment being written, if any.
func (l *laneWriter) seal() error {
	if l.file == nil {
		return nil
	}
	var err error
	if l.cfg.Sync != SyncNever {
		err = l.sync()
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.lane == Priority {
		err = errors.Join(err, l.file.Truncate(l.offset)) // gives back the room that was reserved
	}
	err = errors.Join(err, l.file.Close())
	l.file = nil
	l.active().end = l.head
	return err
}

// leave closes the segment being written, which a later start goes on with.
func (l *laneWriter) leave() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.file == nil {
		return nil
	}
	var err error
	if l.lane == Priority {
		err = l.file.Truncate(l.offset) // gives back the room that was reserved; the next start takes it again
	}
	err = errors.Join(err, l.file.Close())
	l.file = nil
	if err != nil {
		return fmt.Errorf("close a segment: %w", err)
	}
	return nil
}

// sync forces what was written to the disk. It may be called while another goroutine appends.
func (l *laneWriter) sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if !l.dirty || l.file == nil {
		return nil
	}
	l.dirty = false
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("force the journal's lane %s to the disk: %w", l.lane, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("force a directory to the disk: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("force a directory to the disk: %w", err)
	}
	return nil
}

// evictable says whether there is a segment besides the one being written.
func (l *laneWriter) evictable() bool { return len(l.segments) > 1 }

// evict removes the oldest segment and has the lane tell of it: what the lane does not tell of is missing.
func (l *laneWriter) evict() {
	oldest := &l.segments[0]
	what := binary.LittleEndian.AppendUint64(nil, oldest.base)
	what = binary.LittleEndian.AppendUint64(what, l.segments[1].base)
	what = append(what, l.segments[1].previous[:]...)
	l.unrecorded = append(l.unrecorded, what)
	_ = l.recordEvictions() // for lack of room: it is tried again when there is some
	l.onEvict(l.lane, oldest)
	_ = os.Remove(oldest.path)
	l.total -= oldest.size
	l.segments = slices.Delete(l.segments, 0, 1)
	l.note(l)
}

// evictedSize is the length of an eviction's payload: base, end, chain at its end.
const evictedSize = 8 + 8 + 32

// recordEvictions has the lane tell of what was removed.
func (l *laneWriter) recordEvictions() error {
	for l.file != nil && len(l.unrecorded) > 0 {
		if err := l.control(frameEvicted, l.unrecorded[0], 0); err != nil {
			return err
		}
		l.unrecorded = l.unrecorded[1:]
	}
	return nil
}

// expire removes what is older than it may be.
func (l *laneWriter) expire(age time.Duration) {
	for l.evictable() && time.Since(l.segments[0].born) > age {
		l.evict()
	}
	if l.file != nil && l.offset > segmentHeaderSize && time.Since(l.begun) > age/8 && l.head > l.active().base {
		_ = l.rotate() // so that it can be removed when its time comes; it is tried again
	}
}
