// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/klauspost/compress/zstd"

	"github.com/watchglass/watchglass/event"
)

// laneReader reads the records of one lane in the order of their ordinals. What is damaged it leaves out,
// and counts. It is used by one goroutine.
type laneReader struct {
	lane Lane
	id   [16]byte
	// list is the lane's segments as they are now, oldest first.
	list func() ([]segment, error)
	// pin is told which segment is read from now on, and how far the reader is; missed that it was gone
	// before it could be opened, and how many records with it. nil for nobody.
	pin    func(base, position uint64)
	missed func(n uint64)
	// wants chooses frames by their headers; nil means all.
	wants func(h *frameHeader) bool

	// position is the ordinal of the next record.
	position uint64
	// damaged is how many records could not be read back; passed those in frames that are not wanted.
	damaged, passed uint64

	segment *segmentReader // nil when none is open
	known   []*resource
	names   texts
	zstd    *zstd.Decoder
	raw     []byte

	// What is left of the frame being read.
	frame   frameHeader
	records recordState
	rest    parser
	left    uint32
}

func newLaneReader(lane Lane, id [16]byte) (*laneReader, error) {
	d, err := newDecompressor()
	if err != nil {
		return nil, err
	}
	return &laneReader{lane: lane, id: id, names: texts{}, zstd: d}, nil
}

func (r *laneReader) close() {
	r.leave()
	r.zstd.Close()
}

func (r *laneReader) leave() {
	if r.segment != nil {
		r.segment.close()
	}
	r.segment, r.known, r.left = nil, nil, 0
}

// next reads the next record. False means that there is none yet. Its bytes are valid until the next call.
func (r *laneReader) next() (event.Encoded, bool, error) {
	for {
		for r.left == 0 {
			if ok, err := r.load(); !ok {
				return event.Encoded{}, false, err
			}
		}
		e, err := r.records.parse(&r.rest, r.known, r.names)
		if err != nil { // by its checksum it is what was written, but nothing in it can be relied on
			r.lose(r.position + uint64(r.left))
			r.left = 0
			continue
		}
		r.left--
		r.position++
		return e, true, nil
	}
}

// lose counts what lies before the ordinal as damaged, and goes on there.
func (r *laneReader) lose(to uint64) {
	if to > r.position {
		r.damaged += to - r.position
		r.position = to
	}
}

// load finds the next frame with records. False means that there is none yet.
func (r *laneReader) load() (bool, error) {
	for {
		if r.segment == nil {
			if ok, err := r.enter(); !ok {
				return false, err
			}
		}
		h, err := r.segment.peek()
		if err == nil {
			if h.kind == frameRecords || h.kind == frameResource {
				var ready bool
				if ready, err = r.read(&h); ready {
					return true, nil
				}
			} else {
				if h.kind == frameGap && h.ordinal <= r.position {
					r.position = max(r.position, h.ordinal+uint64(h.count))
				}
				r.segment.skip(&h)
			}
		}
		if err == nil {
			continue
		}
		if ok, err := r.trouble(err); !ok {
			return false, err
		}
	}
}

// read reads a frame whose header is good. True means that it has records that are wanted.
func (r *laneReader) read(h *frameHeader) (bool, error) {
	end := h.ordinal + uint64(h.count)
	if h.kind == frameRecords && (end <= r.position || r.wants != nil && !r.wants(h)) {
		r.segment.skip(h)
		if end > r.position {
			r.passed += end - max(r.position, h.ordinal)
		}
		r.position = max(r.position, end)
		return false, nil
	}
	if h.kind == frameResource && h.ordinal >= maxResources {
		r.segment.skip(h)
		return false, nil
	}
	raw, good, err := r.contents(h)
	switch {
	case err != nil:
		return false, err
	case h.kind == frameResource && good:
		r.learn(h.ordinal, raw)
	}
	if h.kind == frameResource {
		return false, nil
	}
	r.lose(h.ordinal) // what lies between is in no frame
	if !good {
		r.lose(end)
		return false, nil
	}
	r.raw = raw
	return r.begin(h), nil
}

// contents is the payload of a frame whose header is good, in r.raw's memory; false when it is damaged. The reader
// is behind it in both cases.
func (r *laneReader) contents(h *frameHeader) ([]byte, bool, error) {
	f, err := r.segment.next()
	if errors.Is(err, errDamaged) {
		r.segment.skip(h)
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	raw, err := f.open(r.zstd, r.raw)
	if err != nil {
		return nil, false, nil //nolint:nilerr // it is damaged, which is counted and no error
	}
	if f.flags&flagZstd == 0 {
		raw = append(r.raw[:0], raw...) // the segment's buffer is used again
	}
	return raw, true, nil
}

func (r *laneReader) learn(number uint64, raw []byte) {
	for uint64(len(r.known)) <= number {
		r.known = append(r.known, nil)
	}
	if known, err := parseResource(raw); err == nil {
		r.known[number] = known
	}
}

// begin takes a frame up, behind what was read of it before.
func (r *laneReader) begin(h *frameHeader) bool {
	r.frame, r.records, r.rest, r.left = *h, recordState{}, parser{rest: r.raw}, h.count
	for before := r.position - h.ordinal; before > 0; before-- {
		if _, err := r.records.parse(&r.rest, r.known, r.names); err != nil {
			r.lose(h.ordinal + uint64(h.count))
			r.left = 0
			return false
		}
		r.left--
	}
	return r.left > 0
}

// trouble deals with a frame that is not there or not good: when the segment is not the last then the next
// is gone on with, and what lies between is damaged. False means that there is nothing to go on with yet.
func (r *laneReader) trouble(err error) (bool, error) {
	if !errors.Is(err, errShort) && !errors.Is(err, errDamaged) {
		return false, err
	}
	segments, listErr := r.list()
	if listErr != nil {
		return false, listErr
	}
	next := uint64(0)
	for i := range segments {
		if segments[i].base > r.segment.header.base {
			next = segments[i].base
			break
		}
	}
	at := r.segment.offset
	r.segment.forget()
	if next == 0 {
		return false, nil
	}
	// Nothing is appended to it any more. It may have been between the two looks, though.
	if h, err := r.segment.peek(); err == nil {
		if _, err := r.segment.read(at, int(h.size())); err == nil {
			return true, nil
		}
	}
	r.lose(next)
	r.leave()
	return true, nil
}

// enter opens the segment which has the next record. False means that there is none yet.
func (r *laneReader) enter() (bool, error) {
	for {
		segments, err := r.list()
		if err != nil || len(segments) == 0 {
			return false, err
		}
		at := 0
		for i := range segments {
			if segments[i].base <= r.position {
				at = i
			}
		}
		r.position = max(r.position, segments[at].base)
		if r.pin != nil {
			r.pin(segments[at].base, r.position)
		}
		err = r.open(segments[at])
		if err == nil {
			return true, nil
		}
		gone := errors.Is(err, fs.ErrNotExist)
		if !gone && !errors.Is(err, errShort) && !errors.Is(err, errDamaged) {
			return false, err
		}
		if at+1 == len(segments) {
			return false, nil
		}
		next := segments[at+1].base
		if !gone {
			r.lose(next)
		} else if r.missed != nil {
			r.missed(next - r.position)
		}
		r.position = next
	}
}

func (r *laneReader) open(s segment) error {
	opened, err := openSegment(s.path, r.lane, s.base)
	if err != nil {
		return err
	}
	if opened.header.journal != r.id {
		opened.close()
		return fmt.Errorf("header of the segment: it is another journal's: %w", errDamaged)
	}
	r.segment = opened
	return nil
}
