// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
)

// recovery is what opening a lane found.
type recovery struct {
	// cut is how many bytes at the end of the last segment were no good frames, and why; moved the file that
	// was no segment at all.
	cut   int64
	why   error
	moved string
	// epoch and accounted are those of the last frame.
	epoch     uint32
	accounted uint64
}

// compressorWindow is how far back a frame is compressed against: as far as frames usually reach.
const compressorWindow = 512 << 10

// openLane makes a lane's writer, with the last segment ready to be appended to.
func openLane(lane Lane, cfg *Config, open opener) (*laneWriter, *recovery, error) {
	l := &laneWriter{
		lane: lane, dir: cfg.Dir, cfg: cfg, open: open, head: 1,
		known: map[uint64][]knownResource{}, hash: maphash.MakeSeed(),
	}
	var err error
	l.compressor, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(compressorWindow))
	if err != nil {
		return nil, nil, fmt.Errorf("prepare to compress: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, lane.String()), 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the journal's folder: %w", err)
	}
	if l.segments, err = listSegments(cfg.Dir, lane); err != nil {
		return nil, nil, err
	}
	if err := l.survey(); err != nil {
		return nil, nil, err
	}
	found := &recovery{}
	for len(l.segments) > 0 {
		resumed, err := l.resume(found)
		if err != nil {
			return nil, nil, err
		}
		if resumed {
			break
		}
		l.segments = l.segments[:len(l.segments)-1]
	}
	return l, found, nil
}

// survey looks at the segments from outside: their sizes, ages and headers. A newer version is an error.
func (l *laneWriter) survey() error {
	now := time.Now()
	l.total = 0
	for i := range l.segments {
		s := &l.segments[i]
		info, err := os.Stat(s.path)
		if err != nil {
			return fmt.Errorf("look at a segment: %w", err)
		}
		// Its age as the clock has it now, from here on by a clock that does not jump.
		s.size, s.born = info.Size(), now.Add(-max(0, now.Sub(info.ModTime())))
		l.total += s.size
		r, err := openSegment(s.path, l.lane, s.base)
		if newer := new(NewerVersionError); errors.As(err, &newer) {
			return err
		}
		if err != nil {
			continue // readers skip it, and count
		}
		s.previous, l.id = r.header.previous, r.header.journal
		r.close()
	}
	return nil
}

// resume makes the last segment the one that is appended to, cut behind its last good frame. False means
// that it is no segment, and is out of the way.
func (l *laneWriter) resume(found *recovery) (bool, error) {
	last := l.active()
	r, err := openSegment(last.path, l.lane, last.base)
	if errors.Is(err, errShort) || errors.Is(err, errDamaged) {
		return false, l.discard(last, found, err)
	}
	if err != nil {
		return false, err
	}
	defer r.close()
	if l.decompressor, err = newDecompressor(); err != nil {
		return false, err
	}
	defer l.decompressor.Close()
	var w walk
	err = w.run(r, last.size, func(f *frame) error { return l.relearn(f, found) })
	if err != nil && !errors.Is(err, errShort) && !errors.Is(err, errDamaged) {
		return false, err
	}
	if err != nil {
		found.cut, found.why = last.size-w.good, err
	}
	if l.file, err = l.open(last.path, 0); err != nil {
		return false, err
	}
	if last.size > w.good {
		if err := l.file.Truncate(w.good); err != nil {
			return false, fmt.Errorf("cut the torn end off %s: %w", last.path, err)
		}
	}
	if l.lane == Priority {
		reserveRoom(l.file, l.cfg.SegmentBytes)
	}
	l.total += w.good - last.size
	last.size, last.end = w.good, 0
	l.offset, l.seed, l.chain.sum, l.head, l.begun = w.good, r.seed, w.sum, w.next, time.Now()
	return true, nil
}

// discard puts a file out of the way that should be the last segment and is none: one whose making was
// interrupted goes, anything else is kept under another name for whoever wants to know what happened.
func (l *laneWriter) discard(last *segment, found *recovery, why error) error {
	l.total -= last.size
	if last.size <= segmentHeaderSize {
		if err := os.Remove(last.path); err != nil {
			return fmt.Errorf("remove an unfinished segment: %w", err)
		}
		return nil
	}
	found.cut, found.why, found.moved = last.size, why, last.path+".damaged"
	if err := os.Rename(last.path, found.moved); err != nil {
		return fmt.Errorf("put a damaged segment out of the way: %w", err)
	}
	return nil
}

// relearn takes from a frame of the last segment what the writer has to know to go on.
func (l *laneWriter) relearn(f *frame, found *recovery) error {
	found.epoch, found.accounted = f.epoch, f.accounted
	switch f.kind {
	case frameResource:
		raw, err := f.open(l.decompressor, nil)
		if err != nil {
			return err
		}
		r, err := parseResource(raw)
		if err != nil {
			return err
		}
		if f.ordinal != uint64(l.resources) {
			return fmt.Errorf("a resource: number %d where %d should follow: %w", f.ordinal, l.resources, errDamaged)
		}
		l.learn(r)
	case frameRecords:
		l.unsigned = true
	case frameCheckpoint:
		l.unsigned = false
	case frameEvicted, frameGap:
	}
	return nil
}
