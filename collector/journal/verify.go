// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Proof is what a journal is verified against.
type Proof struct {
	// Key is the public key of the collector that signs.
	Key ed25519.PublicKey
	// Anchors is copies of "head.json" that were kept elsewhere, besides the one in the folder: all of
	// what they sign must still be there.
	Anchors []Checkpoint
}

// ReadAnchors reads a copy of "head.json".
func ReadAnchors(path string) ([]Checkpoint, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("read the anchors: %w", err)
	}
	return readHeads(path)
}

// Report is what a verification found.
type Report struct {
	Journal string `json:"journal"`
	Key     string `json:"key"`
	// Live is true when a collector was writing meanwhile: its last frame may not have been whole.
	Live  bool         `json:"live"`
	Lanes []LaneReport `json:"lanes"`
}

// Good says whether nothing is wrong.
func (r *Report) Good() bool {
	for i := range r.Lanes {
		if r.Lanes[i].Fault != nil {
			return false
		}
	}
	return true
}

// LaneReport is what was found in one lane.
type LaneReport struct {
	Name     string `json:"name"`
	Segments int    `json:"segments"`
	Frames   uint64 `json:"frames"`
	Bytes    int64  `json:"bytes"`
	// First is the number of the oldest record, Next of the one after the newest.
	First uint64 `json:"first"`
	Next  uint64 `json:"next"`
	// Missing is how many records in between a crash took, as the lane itself tells.
	Missing uint64 `json:"missing"`
	// Evictions is how many removals for lack of room the lane tells of.
	Evictions uint64 `json:"evictions"`
	// Checkpoints is how many signatures are in it; the last is of the records before Signed, at SignedAt.
	Checkpoints uint64    `json:"checkpoints"`
	Signed      uint64    `json:"signed"`
	SignedAt    time.Time `json:"signed_at"`
	// Hash is the chain at the end, in hexadecimal.
	Hash string `json:"hash"`
	// Fault is the first thing that is wrong; nil when nothing is.
	Fault *Fault `json:"fault,omitempty"`
}

// Fault is where a lane stops being what was written.
type Fault struct {
	// Segment is the file and Offset the place of the first bad frame in it.
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	// Record is the number of the first record that cannot be trusted, After the UID of the last good event.
	Record uint64 `json:"record"`
	After  string `json:"after,omitempty"`
	Reason string `json:"reason"`
}

// String is the fault in one line.
func (f *Fault) String() string {
	text := fmt.Sprintf("%s, offset %d, record %d: %s", f.Segment, f.Offset, f.Record, f.Reason)
	if f.After != "" {
		text += " (the last good event is " + f.After + ")"
	}
	return text
}

// Verify holds all of a journal against the chain, the signatures and its own account of what was removed.
// An error means that it could not be read; what is wrong with it is in the report.
func Verify(dir string, p Proof) (*Report, error) {
	report := &Report{Key: Fingerprint(p.Key), Live: lockHeld(dir)}
	// Taken before the lanes are read: a collector that is at work only adds to them.
	heads, err := readHeads(filepath.Join(dir, headName))
	headsFault := ""
	if err != nil {
		headsFault = err.Error()
	}
	decompressor, err := newDecompressor()
	if err != nil {
		return nil, err
	}
	defer decompressor.Close()
	for lane := range Lane(lanes) {
		v := &verifier{dir: dir, lane: lane, key: p.Key, live: report.Live, zstd: decompressor, journal: &report.Journal}
		v.report = LaneReport{Name: lane.String()}
		v.anchor("the checkpoint in "+headName, heads)
		v.anchor("the anchor", p.Anchors)
		if headsFault != "" {
			v.fault(filepath.Join(dir, headName), 0, headsFault)
		}
		if err := v.run(); err != nil {
			return nil, err
		}
		if lane == Spans && v.report.Segments == 0 && v.report.Fault == nil {
			continue // nobody wants traces
		}
		report.Lanes = append(report.Lanes, v.report)
	}
	return report, nil
}

// verifier verifies one lane.
type verifier struct {
	dir     string
	lane    Lane
	key     ed25519.PublicKey
	live    bool
	zstd    *zstd.Decoder
	journal *string // the journal's id, by the first segment
	report  LaneReport

	anchors []anchor
	// sum and next are the chain and the number of the next record so far.
	sum  [32]byte
	next uint64
	// evicted is the chain at the end of what was removed, by the number of the record after it.
	evicted map[uint64][32]byte
	// known and last are for naming the last good event.
	known []*resource
	last  []byte
	count uint32
}

type anchor struct {
	Checkpoint
	what string
	met  bool
}

func (v *verifier) anchor(what string, list []Checkpoint) {
	for _, c := range list {
		if c.Lane == v.lane.String() {
			v.anchors = append(v.anchors, anchor{Checkpoint: c, what: what})
		}
	}
}

// fault notes what is wrong, the first time.
func (v *verifier) fault(segment string, offset int64, reason string) {
	if v.report.Fault != nil {
		return
	}
	v.report.Fault = &Fault{Segment: segment, Offset: offset, Record: v.next, After: v.lastEvent(), Reason: reason}
}

func (v *verifier) run() error {
	segments, err := listSegments(v.dir, v.lane)
	if err != nil {
		return err
	}
	v.evicted = map[uint64][32]byte{}
	var first segmentHeader
	v.next = 1
	opened := 0
	for i := range segments {
		s := &segments[i]
		r, err := openSegment(s.path, v.lane, s.base)
		if v.live && opened == 0 && errors.Is(err, fs.ErrNotExist) {
			continue // it was removed for lack of room meanwhile, as the lane tells further on
		}
		if newer := new(NewerVersionError); errors.As(err, &newer) {
			return err
		}
		if err != nil {
			if !errors.Is(err, errShort) && !errors.Is(err, errDamaged) {
				return err
			}
			if !v.live || i+1 < len(segments) {
				v.fault(s.path, 0, err.Error())
			}
			break
		}
		if opened++; opened == 1 {
			first = r.header
			v.report.First, v.next = r.header.base, r.header.base
		} else {
			v.joins(r)
		}
		err = v.segment(r, i+1 == len(segments))
		r.close()
		if err != nil {
			return err
		}
		if v.report.Fault != nil {
			break
		}
	}
	v.report.Next, v.report.Hash = v.next, hex.EncodeToString(v.sum[:])
	if len(segments) > 0 {
		v.begins(segments[0].path, &first)
	}
	v.holdAnchors()
	return nil
}

// joins holds the beginning of a segment to the end of the one before.
func (v *verifier) joins(r *segmentReader) {
	switch {
	case r.header.base != v.next:
		v.fault(r.path, 0, fmt.Sprintf("it begins with record %d, and the segment before ends with %d: a segment was removed, or cut short", r.header.base, v.next-1))
	case r.header.previous != v.sum:
		v.fault(r.path, 0, "its chain does not go on from the end of the segment before: one of the two was replaced or cut short")
	}
}

// begins holds the beginning of the lane to what the lane tells of what was removed before it.
func (v *verifier) begins(path string, first *segmentHeader) {
	if v.report.Fault != nil || first.version == 0 { // the only one is being begun
		return
	}
	if first.base == 1 {
		if first.previous != [32]byte{} {
			v.next = 1
			v.fault(path, 0, "the first segment of all names one before it")
		}
		return
	}
	sum, told := v.evicted[first.base]
	if !told || sum != first.previous {
		v.next = 1
		v.fault(path, 0, fmt.Sprintf("the records before %d are gone, and the journal does not tell that it removed them", first.base))
	}
}

// segment holds one segment to the chain.
func (v *verifier) segment(r *segmentReader, last bool) error {
	id := hex.EncodeToString(r.header.journal[:])
	if *v.journal == "" {
		*v.journal = id
	}
	if *v.journal != id {
		v.fault(r.path, 0, "it is another journal's")
	}
	if v.report.Fault != nil {
		return nil
	}
	info, err := os.Stat(r.path)
	if err != nil {
		return fmt.Errorf("look at a segment: %w", err)
	}
	v.report.Segments++
	v.known = v.known[:0]
	var w walk
	started := false
	err = w.run(r, info.Size(), func(f *frame) error {
		if !started {
			v.meet(w.sum)
			started = true
		}
		return v.frame(f, &w)
	})
	v.report.Bytes += w.good
	v.next, v.sum = w.next, w.sum
	v.meet(w.sum)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errShort) && last && v.live: // it is being written
		return nil
	case errors.Is(err, errShort):
		v.fault(r.path, w.good, fmt.Sprintf("%d bytes at the end are no whole frame: it was cut short, or a crash tore it", info.Size()-w.good))
		return nil
	case errors.Is(err, errDamaged), errors.Is(err, errUnsigned):
		v.fault(r.path, w.good, err.Error())
		return nil
	}
	return err
}

// errUnsigned is of a checkpoint that does not prove what it says.
var errUnsigned = errors.New("a checkpoint is wrong")

func (v *verifier) frame(f *frame, w *walk) error {
	v.report.Frames++
	switch f.kind {
	case frameResource, frameRecords:
		v.remember(f)
	case frameGap:
		v.report.Missing += uint64(f.count)
	case frameEvicted:
		if len(f.payload) != evictedSize {
			return fmt.Errorf("an eviction: %w", errDamaged)
		}
		v.report.Evictions++
		v.evicted[binary.LittleEndian.Uint64(f.payload[8:])] = [32]byte(f.payload[16:])
	case frameCheckpoint:
		raw, err := f.open(v.zstd, nil)
		if err != nil {
			return err
		}
		return v.checkpoint(raw, f, w)
	}
	v.meet(f.hash)
	return nil
}

func (v *verifier) checkpoint(raw []byte, f *frame, w *walk) error {
	var c Checkpoint
	if err := json.Unmarshal(raw, &c); err != nil {
		return fmt.Errorf("%w: it cannot be read: %w", errUnsigned, err)
	}
	if err := c.verify(v.key); err != nil {
		return fmt.Errorf("%w: %w", errUnsigned, err)
	}
	if c.Journal != *v.journal || c.Lane != v.lane.String() || c.Ordinal != w.next || c.Hash != hex.EncodeToString(w.sum[:]) {
		return fmt.Errorf("%w: it signs something else than what is before it", errUnsigned)
	}
	v.report.Checkpoints++
	v.report.Signed, v.report.SignedAt = c.Ordinal, c.Time
	v.meet(f.hash)
	return nil
}

// meet marks the anchors that the chain passes through.
func (v *verifier) meet(sum [32]byte) {
	for i := range v.anchors {
		if !v.anchors[i].met && v.anchors[i].Hash == hex.EncodeToString(sum[:]) {
			v.anchors[i].met = true
		}
	}
}

// holdAnchors says of each anchor whether what it signs is still there.
func (v *verifier) holdAnchors() {
	if v.report.Fault != nil {
		return
	}
	end := filepath.Join(v.dir, v.lane.String())
	for i := range v.anchors {
		a := &v.anchors[i]
		switch err := a.verify(v.key); {
		case err != nil:
			v.fault(end, 0, a.what+": "+err.Error())
		case *v.journal != "" && a.Journal != *v.journal:
			v.fault(end, 0, a.what+" is of another journal")
		case a.met, a.Ordinal < v.report.First:
		case a.Ordinal > v.next || v.report.Segments == 0:
			v.fault(end, v.report.Bytes, fmt.Sprintf("%s signs the records before %d, and the lane ends with %d: its end was cut off", a.what, a.Ordinal, v.next-1))
		default:
			v.fault(end, v.report.Bytes, fmt.Sprintf("%s, at record %d, is not in the chain: the lane was rewritten or cut short", a.what, a.Ordinal))
		}
	}
}

// remember keeps what is needed to name the last good event.
func (v *verifier) remember(f *frame) {
	raw, err := f.open(v.zstd, nil)
	if err != nil {
		return
	}
	if f.kind == frameRecords {
		v.last, v.count = append(v.last[:0], raw...), f.count
		return
	}
	if r, err := parseResource(raw); err == nil && f.ordinal < maxResources {
		for uint64(len(v.known)) <= f.ordinal {
			v.known = append(v.known, nil)
		}
		v.known[f.ordinal] = r
	}
}

// lastEvent is the UID of the last event before a fault, "" when there is none.
func (v *verifier) lastEvent() string {
	p, names, uid := parser{rest: bytes.Clone(v.last)}, texts{}, ""
	var state recordState
	for range v.count {
		e, err := state.parse(&p, v.known, names)
		if err != nil {
			break
		}
		uid = fmt.Sprintf("%s-%d", e.Instance, e.Seq)
	}
	return uid
}
