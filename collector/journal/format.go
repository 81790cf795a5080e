// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Version is the version of the format that this program writes, and the newest that it reads.
const Version = 1

// Lane is one of the logs of a journal. Each has files, a chain and a budget of its own.
type Lane uint8

// The lanes. Priority is for what must outlive any flood of the rest. Spans is for what is made of events for who
// wants traces: they are no events, and nobody but their destination reads them.
const (
	Priority Lane = iota
	Events
	Spans
	lanes = 3
	// eventLanes is how many lanes, the first ones, have events.
	eventLanes = 2
)

// String is the lane's name, which is also the name of its directory.
func (l Lane) String() string {
	switch l {
	case Priority:
		return "priority"
	case Spans:
		return "spans"
	default:
		return "events"
	}
}

// A segment file is a header and then frames, all numbers little-endian:
//
//	segment header: magic "WGSEGMNT", version u16, lane u8, 0 u8, crc u32 of all but itself,
//	                base u64, created i64 (Unix ns), journal id [16], previous chain hash [32]
//	frame:          header [68], payload, chain hash [32], crc u32 of payload and hash, begun with the header's
//
// The crc of a frame's header begins with that of the segment's header, so that a frame is good in the one
// file that it was written to.
const (
	segmentMagic      = "WGSEGMNT"
	segmentHeaderSize = 80
	frameMagic        = 0x52464757 // "WGFR"
	frameHeaderSize   = 68
	frameTrailerSize  = sha256.Size + 4
	frameOverhead     = frameHeaderSize + frameTrailerSize
)

// Bounds of what is written and of what is believed when it is read.
const (
	// maxRecord is the most bytes of one event.
	maxRecord = 16 << 20
	// frameTarget is where a frame of records ends. maxRaw is the most that one holds.
	frameTarget = 512 << 10
	maxRaw      = maxRecord + 1<<20
	// maxResources is how many resources a segment has at most.
	maxResources = 1 << 16
)

// frameType says what a frame's payload is.
type frameType uint8

const (
	// frameRecords is events.
	frameRecords frameType = 1 + iota
	// frameResource is a resource that later frames of the segment name by its number.
	frameResource
	// frameEvicted says that an older segment was removed for lack of room.
	frameEvicted
	// frameGap says that records which had a number are not there: a crash took them.
	frameGap
	// frameCheckpoint is a signature of the chain so far.
	frameCheckpoint
)

// flagZstd says that the payload is compressed.
const flagZstd = 1

// segmentHeader is the beginning of a segment file.
type segmentHeader struct {
	version  uint16
	lane     Lane
	base     uint64
	created  int64
	journal  [16]byte
	previous [sha256.Size]byte
}

// Errors of what is read. They are wrapped with what exactly is wrong.
var (
	errDamaged = errors.New("damaged")
	// errShort means that the file ends before the thing does.
	errShort = errors.New("incomplete")
)

// NewerVersionError says that a file was written by a newer version of this program.
type NewerVersionError struct {
	Path    string
	Version uint16
}

// Error implements error.
func (e *NewerVersionError) Error() string {
	return fmt.Sprintf("%s: written in version %d of the journal's format, this program knows up to version %d: use a newer one, or move the folder away",
		e.Path, e.Version, Version)
}

func castagnoli(crc uint32, p []byte) uint32 {
	return crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), p)
}

func (h *segmentHeader) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, segmentMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, h.version)
	dst = append(dst, byte(h.lane), 0, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, h.base)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.created))
	dst = append(dst, h.journal[:]...)
	dst = append(dst, h.previous[:]...)
	binary.LittleEndian.PutUint32(dst[start+12:], headerSum(dst[start:]))
	return dst
}

// headerSum is the checksum of a segment's header without its own checksum.
func headerSum(b []byte) uint32 { return castagnoli(castagnoli(0, b[:12]), b[16:segmentHeaderSize]) }

// parseSegmentHeader reads a segment's header; sum is its checksum. A newer version is a *NewerVersionError
// even where the rest looks damaged, for what a newer header looks like is not known.
func parseSegmentHeader(path string, b []byte) (h segmentHeader, sum uint32, err error) {
	if len(b) < segmentHeaderSize {
		return h, 0, fmt.Errorf("header of the segment: %w", errShort)
	}
	if string(b[:8]) != segmentMagic {
		return h, 0, fmt.Errorf("header of the segment: no journal's: %w", errDamaged)
	}
	h.version = binary.LittleEndian.Uint16(b[8:])
	sum = binary.LittleEndian.Uint32(b[12:])
	good := sum == headerSum(b)
	if h.version > Version {
		return h, 0, &NewerVersionError{Path: path, Version: h.version}
	}
	if !good || h.version == 0 || b[10] >= lanes || b[11] != 0 {
		return h, 0, fmt.Errorf("header of the segment: wrong checksum: %w", errDamaged)
	}
	h.lane = Lane(b[10])
	h.base = binary.LittleEndian.Uint64(b[16:])
	h.created = int64(binary.LittleEndian.Uint64(b[24:]))
	copy(h.journal[:], b[32:48])
	copy(h.previous[:], b[48:80])
	return h, sum, nil
}

// frameHeader is the beginning of a frame.
type frameHeader struct {
	kind  frameType
	flags uint8
	// severity is the highest of the records.
	severity event.Severity
	// stored is the payload's length, raw its length when it is not compressed.
	stored, raw uint32
	// count is how many records it holds, or how many a gap lacks.
	count uint32
	// epoch is the number of the start of the collector that wrote it: it orders instances.
	epoch uint32
	// ordinal is the number of the first record in its lane; of a frame without records, of the next.
	// A frame of a resource has the resource's number there.
	ordinal uint64
	// accounted is how many events of this start are known, by what this lane holds, to have been lost before
	// they came here.
	accounted uint64
	// written is when, first and last the earliest and latest time of the records, in Unix nanoseconds.
	written, first, last int64
}

func (h *frameHeader) size() int64 { return frameOverhead + int64(h.stored) }

func (h *frameHeader) append(dst []byte, seed uint32) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, frameMagic)
	dst = append(dst, byte(h.kind), h.flags, byte(h.severity), 0)
	for _, v := range [...]uint32{h.stored, h.raw, h.count, h.epoch} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	for _, v := range [...]uint64{h.ordinal, h.accounted, uint64(h.written), uint64(h.first), uint64(h.last)} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return binary.LittleEndian.AppendUint32(dst, castagnoli(seed, dst[start:]))
}

// parseFrameHeader reads a frame's header; sum is its checksum, with which that of the payload begins.
func parseFrameHeader(b []byte, seed uint32) (h frameHeader, sum uint32, err error) {
	if len(b) < frameHeaderSize {
		return h, 0, fmt.Errorf("header of a frame: %w", errShort)
	}
	sum = binary.LittleEndian.Uint32(b[64:])
	if binary.LittleEndian.Uint32(b) != frameMagic || sum != castagnoli(seed, b[:64]) || b[7] != 0 {
		return h, 0, fmt.Errorf("header of a frame: wrong checksum: %w", errDamaged)
	}
	h = frameHeader{
		kind: frameType(b[4]), flags: b[5], severity: event.Severity(b[6]),
		stored: binary.LittleEndian.Uint32(b[8:]), raw: binary.LittleEndian.Uint32(b[12:]),
		count: binary.LittleEndian.Uint32(b[16:]), epoch: binary.LittleEndian.Uint32(b[20:]),
		ordinal: binary.LittleEndian.Uint64(b[24:]), accounted: binary.LittleEndian.Uint64(b[32:]),
		written: int64(binary.LittleEndian.Uint64(b[40:])),
		first:   int64(binary.LittleEndian.Uint64(b[48:])), last: int64(binary.LittleEndian.Uint64(b[56:])),
	}
	if h.raw > maxRaw || h.stored > h.raw || h.flags&^flagZstd != 0 {
		return h, 0, fmt.Errorf("header of a frame: impossible lengths: %w", errDamaged)
	}
	return h, sum, nil
}

// chain is the hash after a frame, or after a segment's header: it covers all that was before in the lane.
type chain struct {
	sum  [sha256.Size]byte
	hash hash.Hash // made once, used for every frame
}

// add adds a frame.
func (c *chain) add(header, payload []byte) {
	if c.hash == nil {
		c.hash = sha256.New()
	}
	c.hash.Reset()
	c.hash.Write(c.sum[:])
	c.hash.Write(header)
	c.hash.Write(payload)
	c.hash.Sum(c.sum[:0])
}

// start is the chain after a segment's header, which holds the hash before it.
func (c *chain) start(header []byte) { c.sum = sha256.Sum256(header) }

// record is the parts of an event that stand in a frame.
//
// Its form: number of its resource, seq and time as differences to the record before, severity, kind, session, record;
// numbers are varints, texts and bytes have their length before them.
type recordState struct {
	seq  uint64
	time int64
}

func (s *recordState) append(dst []byte, e *event.Encoded, resource uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(resource))
	dst = binary.AppendVarint(dst, int64(e.Seq-s.seq))
	now := e.Time.UnixNano()
	dst = binary.AppendVarint(dst, now-s.time)
	s.seq, s.time = e.Seq, now
	dst = append(dst, byte(e.Severity))
	dst = appendText(dst, string(e.Kind))
	dst = appendText(dst, e.Session)
	dst = binary.AppendUvarint(dst, uint64(len(e.Record)))
	return append(dst, e.Record...)
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// resource is what records of one sandbox and one start of the collector share.
type resource struct {
	sandbox, instance string
	bytes             []byte
}

func (r *resource) append(dst []byte) []byte {
	dst = appendText(appendText(dst, r.sandbox), r.instance)
	return append(dst, r.bytes...)
}

func parseResource(b []byte) (*resource, error) {
	p := parser{rest: b}
	r := &resource{sandbox: string(p.bytes()), instance: string(p.bytes())}
	if p.failed {
		return nil, fmt.Errorf("resource: %w", errDamaged)
	}
	r.bytes = bytes.Clone(p.rest)
	return r, nil
}

// parser takes a payload apart. Once it failed it gives zeros.
type parser struct {
	rest   []byte
	failed bool
}

func (p *parser) fail() {
	p.rest, p.failed = nil, true
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.rest)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *parser) byte() byte {
	if len(p.rest) == 0 {
		p.fail()
		return 0
	}
	b := p.rest[0]
	p.rest = p.rest[1:]
	return b
}

func (p *parser) bytes() []byte {
	n := p.uvarint()
	if n > uint64(len(p.rest)) {
		p.fail()
		return nil
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b
}

// texts keeps one string of each text, so that reading the same kinds and sessions again allocates nothing.
// It starts anew when it is full.
type texts map[string]string

const maxTexts = 4096

func (t texts) of(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := t[string(b)]; ok {
		return s
	}
	if len(t) >= maxTexts {
		clear(t)
	}
	s := string(b)
	t[s] = s
	return s
}

// parseRecord reads the next record of a frame. The event's bytes are those of the frame.
func (s *recordState) parse(p *parser, known []*resource, names texts) (event.Encoded, error) {
	number := p.uvarint()
	s.seq += uint64(p.varint())
	s.time += p.varint()
	e := event.Encoded{
		Seq: s.seq, Time: time.Unix(0, s.time), Severity: event.Severity(p.byte()),
		Kind: event.Kind(names.of(p.bytes())), Session: names.of(p.bytes()), Record: p.bytes(),
	}
	if p.failed {
		return e, fmt.Errorf("records: %w", errDamaged)
	}
	if number >= uint64(len(known)) || known[number] == nil {
		return e, fmt.Errorf("records name a resource that could not be read: %w", errDamaged)
	}
	r := known[number]
	e.Sandbox, e.Instance, e.Resource = r.sandbox, r.instance, r.bytes
	return e, nil
}
