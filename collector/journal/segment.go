// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// segmentSuffix ends the names of segments, which begin with their base in twenty digits.
const segmentSuffix = ".wgj"

func segmentPath(dir string, lane Lane, base uint64) string {
	return filepath.Join(dir, lane.String(), fmt.Sprintf("%020d%s", base, segmentSuffix))
}

// segment is what is known of a segment file from outside.
type segment struct {
	path string
	base uint64
	// end is the ordinal after its last record, 0 while it is not known.
	end  uint64
	size int64
	// previous is the chain before it, born when it was last written.
	previous [32]byte
	born     time.Time
}

// listSegments is the segments of a lane, oldest first. Files of other names are nobody's.
func listSegments(dir string, lane Lane) ([]segment, error) {
	entries, err := os.ReadDir(filepath.Join(dir, lane.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the segments: %w", err)
	}
	var list []segment
	for _, entry := range entries {
		digits, ok := strings.CutSuffix(entry.Name(), segmentSuffix)
		base, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || len(digits) != 20 || base == 0 {
			continue
		}
		list = append(list, segment{path: segmentPath(dir, lane, base), base: base})
	}
	slices.SortFunc(list, func(a, b segment) int {
		if a.base < b.base {
			return -1
		}
		return 1
	})
	for i := range list[:max(0, len(list)-1)] {
		list[i].end = list[i+1].base
	}
	return list, nil
}

// newDecompressor makes what takes payloads apart. No payload makes it use more memory than a frame may have.
func newDecompressor() (*zstd.Decoder, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw+1<<16), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("prepare to decompress: %w", err)
	}
	return d, nil
}

// frame is a frame as it was read. Its bytes are valid until the next read.
type frame struct {
	frameHeader
	offset          int64
	header, payload []byte
	hash            [32]byte
}

// segmentReader reads the frames of one segment file, by checked lengths and checksums.
type segmentReader struct {
	file   io.ReaderAt
	closer io.Closer
	path   string
	header segmentHeader
	head   []byte // the header's bytes
	seed   uint32
	// offset is where the next frame begins.
	offset int64

	buf   []byte // a piece of the file
	start int64  // where it begins
}

// readAhead is how much of a file is read at once.
const readAhead = 128 << 10

// openSegment opens a segment and reads its header. A file that ends within its header is errShort.
func openSegment(path string, lane Lane, base uint64) (*segmentReader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open a segment: %w", err)
	}
	r, err := newSegmentReader(file, path)
	if err == nil && (r.header.lane != lane || r.header.base != base) {
		err = fmt.Errorf("header of the segment: it is of another file: %w", errDamaged)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	r.closer = file
	return r, nil
}

func newSegmentReader(file io.ReaderAt, path string) (*segmentReader, error) {
	r := &segmentReader{file: file, path: path}
	b, err := r.read(0, segmentHeaderSize)
	if err != nil {
		return nil, err
	}
	r.header, r.seed, err = parseSegmentHeader(path, b)
	if err != nil {
		return nil, err
	}
	r.head = slices.Clone(b)
	r.offset = segmentHeaderSize
	return r, nil
}

func (r *segmentReader) close() {
	if r.closer != nil {
		_ = r.closer.Close()
	}
}

// read is n bytes at an offset, valid until the next read. Fewer are errShort, and will be looked for again.
func (r *segmentReader) read(offset int64, n int) ([]byte, error) {
	if at := offset - r.start; at >= 0 && at+int64(n) <= int64(len(r.buf)) {
		return r.buf[at : at+int64(n)], nil
	}
	want := max(n, readAhead)
	if cap(r.buf) < want {
		r.buf = make([]byte, want)
	}
	got, err := r.file.ReadAt(r.buf[:want], offset)
	r.buf, r.start = r.buf[:got], offset
	if got >= n {
		return r.buf[:n], nil
	}
	r.buf = r.buf[:0]
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", r.path, err)
	}
	return nil, fmt.Errorf("at offset %d: %w", offset, errShort)
}

// forget makes the next read look at the file again.
func (r *segmentReader) forget() { r.buf = r.buf[:0] }

// peek reads the header of the next frame and stays before it.
func (r *segmentReader) peek() (frameHeader, error) {
	b, err := r.read(r.offset, frameHeaderSize)
	if err != nil {
		return frameHeader{}, err
	}
	h, _, err := parseFrameHeader(b, r.seed)
	return h, err
}

// skip goes on behind a frame whose header was read.
func (r *segmentReader) skip(h *frameHeader) { r.offset += h.size() }

// next reads the next frame and checks all of it.
func (r *segmentReader) next() (*frame, error) {
	b, err := r.read(r.offset, frameHeaderSize)
	if err != nil {
		return nil, err
	}
	h, sum, err := parseFrameHeader(b, r.seed)
	if err != nil {
		return nil, err
	}
	if b, err = r.read(r.offset, int(h.size())); err != nil {
		return nil, err
	}
	f := &frame{frameHeader: h, offset: r.offset, header: b[:frameHeaderSize], payload: b[frameHeaderSize : frameHeaderSize+h.stored]}
	trailer := b[frameHeaderSize+h.stored:]
	copy(f.hash[:], trailer)
	end := frameHeaderSize + int(h.stored) + len(f.hash)
	if castagnoli(sum, b[frameHeaderSize:end]) != le32(b[end:]) {
		return nil, fmt.Errorf("a frame: wrong checksum: %w", errDamaged)
	}
	r.offset += h.size()
	return f, nil
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// open gives a frame's payload uncompressed, in dst's memory where it has to be made.
func (f *frame) open(d *zstd.Decoder, dst []byte) ([]byte, error) {
	if f.flags&flagZstd == 0 {
		return f.payload, nil
	}
	raw, err := d.DecodeAll(f.payload, dst[:0])
	if err != nil || len(raw) != int(f.raw) {
		return nil, fmt.Errorf("a frame cannot be decompressed: %w", errDamaged)
	}
	return raw, nil
}

// walk reads a segment from its beginning, holding the frames to the chain and to the order of their numbers, and shows
// each to visit.
type walk struct {
	chain chain
	// next is the ordinal of the next record, good where the good frames end, sum the chain there.
	next uint64
	good int64
	sum  [32]byte
}

// run returns nil at the clean end of the file, and else why the good frames end where they do.
func (w *walk) run(r *segmentReader, size int64, visit func(f *frame) error) error {
	w.chain.start(r.head)
	w.next, w.good, w.sum = r.header.base, r.offset, w.chain.sum
	for r.offset < size {
		f, err := r.next()
		if err != nil {
			return err
		}
		w.chain.add(f.header, f.payload)
		if w.chain.sum != f.hash {
			return fmt.Errorf("a frame: its hash does not follow from what is before it: %w", errDamaged)
		}
		if err := f.follows(w.next); err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		w.next += uint64(f.records())
		w.good, w.sum = r.offset, w.chain.sum
	}
	return nil
}

// records is how many numbers of records the frame takes.
func (h *frameHeader) records() uint32 {
	if h.kind == frameRecords || h.kind == frameGap {
		return h.count
	}
	return 0
}

// follows says whether the frame is the one that follows where next is the number of the next record.
func (h *frameHeader) follows(next uint64) error {
	switch h.kind {
	case frameResource: // it has a number of its own there
		return nil
	case frameRecords, frameGap, frameEvicted, frameCheckpoint:
		if h.ordinal != next {
			return fmt.Errorf("a frame: it is of record %d where %d should follow: %w", h.ordinal, next, errDamaged)
		}
		return nil
	default:
		return fmt.Errorf("a frame: of unknown type %d: %w", h.kind, errDamaged)
	}
}
