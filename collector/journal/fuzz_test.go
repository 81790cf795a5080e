// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/watchglass/watchglass/event"
)

// smallJournal makes a journal of three segments of events, without the key being random twice.
func smallJournal(t testing.TB) Config {
	t.Helper()
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	for seq := uint64(1); seq <= 4000; seq += 250 {
		add(j, makeAll("a", seq, seq+250))
	}
	shut(t, j)
	list, err := listSegments(cfg.Dir, Events)
	if err != nil || len(list) < 3 {
		t.Fatal(err, len(list))
	}
	return cfg
}

// readAll reads a journal from its folder and holds each record to what was written. What it returns is
// the numbers that came, each at most once.
func readAll(t testing.TB, dir string) []uint64 {
	t.Helper()
	r, err := OpenReader(dir, Query{})
	if err != nil {
		return nil
	}
	defer r.Close()
	var seen []uint64
	for {
		e, ok, err := r.Next()
		if err != nil {
			return seen // a newer version, for one: said, not crashed
		}
		if !ok {
			return seen
		}
		want := made("a", e.Seq)
		if !same(e, &want) {
			t.Fatalf("a wrong record is delivered as good: %+v", e)
		}
		seen = append(seen, e.Seq)
	}
}

func once(t testing.TB, seen []uint64) {
	t.Helper()
	slices.Sort(seen)
	for i := 1; i < len(seen); i++ {
		if seen[i] == seen[i-1] {
			t.Fatalf("record %d is delivered twice", seen[i])
		}
	}
}

// FuzzDamage does to a segment what the input says (flip bits, cut, put a piece elsewhere, repeat it), then
// reads the journal, verifies it and writes on to it.
func FuzzDamage(f *testing.F) {
	cfg := smallJournal(f)
	f.Add(uint8(0), uint8(0), uint32(100), uint32(5), uint32(0), false)
	f.Add(uint8(1), uint8(1), uint32(20000), uint32(1), uint32(0), true)
	f.Add(uint8(1), uint8(2), uint32(3000), uint32(900), uint32(8000), false)
	f.Add(uint8(2), uint8(3), uint32(80), uint32(4000), uint32(20000), true)
	f.Add(uint8(0), uint8(4), uint32(0), uint32(0), uint32(0), true)
	f.Add(uint8(2), uint8(0), uint32(8), uint32(0), uint32(0), true)
	original := verifiedSegments(f, cfg.Dir)
	f.Fuzz(func(t *testing.T, which, how uint8, at, n, to uint32, reopen bool) {
		dir := filepath.Join(t.TempDir(), "journal")
		if err := os.CopyFS(dir, os.DirFS(cfg.Dir)); err != nil {
			t.Fatal(err)
		}
		list := original
		path := filepath.Join(dir, "events", list[int(which)%len(list)])
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := damage(text, how, at, n, to)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		once(t, readAll(t, dir))
		if report, err := Verify(dir, proofOf(t, dir)); err == nil && report.Good() && !bytes.Equal(text, damaged) {
			t.Fatalf("the damage is not found: %d of %d, %d bytes", at, len(text), n)
		}
		if !reopen {
			return
		}
		again := cfg
		again.Dir = dir
		j, err := Open(again, settings(t, "a"))
		if err != nil {
			return
		}
		add(j, makeAll("a", 4001, 4101))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		seen := readAll(t, dir)
		once(t, seen)
		for seq := uint64(4001); seq <= 4100; seq++ {
			if !slices.Contains(seen, seq) {
				t.Fatalf("record %d, written after the damage, is gone", seq)
			}
		}
	})
}

func verifiedSegments(t testing.TB, dir string) []string {
	list, err := listSegments(dir, Events)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range list {
		names = append(names, filepath.Base(list[i].path))
	}
	return names
}

func proofOf(t testing.TB, dir string) Proof {
	key, err := ReadPublicKey("", dir)
	if err != nil {
		t.Fatal(err)
	}
	return Proof{Key: key}
}

func damage(text []byte, how uint8, at, n, to uint32) []byte {
	size := uint32(len(text))
	at, to = at%size, to%size
	piece := bytes.Clone(text[at:min(size, at+n%8192)])
	switch how % 5 {
	case 0: // flip a bit
		text[at] ^= 1 << (n % 8)
		return text
	case 1: // cut the end off
		return text[:at]
	case 2: // take a piece out
		return slices.Delete(text, int(at), int(at)+len(piece))
	case 3: // repeat a piece elsewhere
		return slices.Insert(text, int(to), piece...)
	default: // write a piece over another
		copy(text[to:], piece)
		return text
	}
}

// FuzzSegment reads whatever bytes as a segment.
func FuzzSegment(f *testing.F) {
	cfg := smallJournal(f)
	list, err := listSegments(cfg.Dir, Events)
	if err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(list[0].path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text[:4096], true)
	f.Add(text[:segmentHeaderSize], false)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend && len(b) >= segmentHeaderSize { // so that what is behind the checksums is reached
			b = resum(b)
		}
		r, err := newSegmentReader(bytes.NewReader(b), "fuzz")
		if err != nil {
			return
		}
		var w walk
		d, err := newDecompressor()
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		var known []*resource
		_ = w.run(r, int64(len(b)), func(fr *frame) error {
			raw, err := fr.open(d, nil)
			if err != nil {
				return err
			}
			if len(raw) > maxRaw {
				t.Fatalf("a frame of %d bytes", len(raw))
			}
			switch fr.kind {
			case frameResource:
				if one, err := parseResource(raw); err == nil {
					known = append(known, one)
				}
			case frameRecords:
				p, names := parser{rest: raw}, texts{}
				var state recordState
				for range fr.count {
					if _, err := state.parse(&p, known, names); err != nil {
						return err
					}
				}
			case frameEvicted, frameGap, frameCheckpoint:
			}
			return nil
		})
	})
}

// resum makes checksums right wherever the lengths allow it.
func resum(b []byte) []byte {
	b = bytes.Clone(b)
	put32(b[12:], headerSum(b))
	seed := le32(b[12:])
	for at := segmentHeaderSize; at+frameOverhead <= len(b); {
		stored := int(le32(b[at+8:]))
		if stored < 0 || at+frameOverhead+stored > len(b) {
			break
		}
		put32(b[at+64:], castagnoli(seed, b[at:at+64]))
		end := at + frameHeaderSize + stored + 32
		put32(b[end:], castagnoli(le32(b[at+64:]), b[at+frameHeaderSize:end]))
		at = end + 4
	}
	return b
}

// FuzzRecords reads whatever bytes as the payload of a frame, and writes what it understood again.
func FuzzRecords(f *testing.F) {
	var state recordState
	var payload []byte
	for seq := uint64(1); seq < 5; seq++ {
		e := made("a", seq)
		payload = state.append(payload, &e, 0)
	}
	f.Add(payload, uint32(4))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, count uint32) {
		known := []*resource{{sandbox: "s", instance: "a", bytes: []byte("r")}}
		p := parser{rest: b}
		names := texts{}
		var read, write recordState
		var list []event.Encoded
		for range min(count, 1000) {
			e, err := read.parse(&p, known, names)
			if err != nil {
				return
			}
			list = append(list, e)
		}
		var again []byte
		for i := range list {
			again = write.append(again, &list[i], 0)
		}
		p, read = parser{rest: again}, recordState{}
		for i := range list {
			e, err := read.parse(&p, known, names)
			if err != nil || !same(&e, &list[i]) {
				t.Fatalf("%v: %+v became %+v", err, list[i], e)
			}
		}
	})
}

// FuzzState: whatever the small files hold, the journal opens or says why not.
func FuzzState(f *testing.F) {
	cfg := smallJournal(f)
	for _, name := range []string{"state", headName, "lock"} {
		text, err := os.ReadFile(filepath.Join(cfg.Dir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, text, []byte(`{"format":1,"next":{"events":5}}`))
	}
	f.Add([]byte("WGSTATE1"), []byte("[]"), []byte("{}"))
	f.Add(binary.LittleEndian.AppendUint64([]byte("WGSTATE1"), 1<<63), []byte("x"), []byte(""))
	f.Fuzz(func(t *testing.T, state, head, cursor []byte) {
		dir := filepath.Join(t.TempDir(), "journal")
		if err := os.CopyFS(dir, os.DirFS(cfg.Dir)); err != nil {
			t.Fatal(err)
		}
		_ = os.Mkdir(filepath.Join(dir, "cursors"), 0o700)
		for name, text := range map[string][]byte{"state": state, headName: head, "cursors/siem.json": cursor, "lock": head} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		again := cfg
		again.Dir = dir
		s := settings(t, "a")
		s.Logger = discard()
		j, err := Open(again, s)
		if err != nil {
			return
		}
		c, err := j.Cursor("siem")
		if err != nil {
			t.Fatal(err)
		}
		add(j, makeAll("a", 4001, 4101))
		seen := drain(t, c, few)
		if len(seen) < 100 {
			t.Fatalf("%d of the 100 new events came", len(seen))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
