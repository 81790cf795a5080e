// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// signedJournal makes a journal of several segments, of which some were evicted, and shuts it.
func signedJournal(t *testing.T) Config {
	t.Helper()
	cfg := config(t.TempDir())
	cfg.MaxBytes = 320 << 10
	j := open(t, cfg, "a")
	for seq := uint64(1); seq < 30000; seq += 1000 {
		add(j, makeAll("a", seq, seq+1000))
		j.write.Lock()
		j.checkpoint()
		j.write.Unlock()
	}
	if j.Stats().Lanes[Events].Evicted == 0 || j.Stats().Lanes[Events].Segments < 4 {
		t.Fatalf("the journal is too small for the test: %+v", j.Stats())
	}
	shut(t, j)
	return cfg
}

func proof(t *testing.T, dir string) Proof {
	t.Helper()
	key, err := ReadPublicKey("", dir)
	if err != nil {
		t.Fatal(err)
	}
	return Proof{Key: key}
}

func verified(t *testing.T, dir string, p Proof) *Report {
	t.Helper()
	report, err := Verify(dir, p)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestVerifyBelievesWhatWasWritten(t *testing.T) {
	cfg := signedJournal(t)
	report := verified(t, cfg.Dir, proof(t, cfg.Dir))
	if !report.Good() {
		t.Fatalf("%+v", report.Lanes)
	}
	l := report.Lanes[Events]
	if l.Evictions == 0 || l.First == 1 || l.Checkpoints == 0 || l.Signed != l.Next {
		t.Errorf("the report: %+v", l)
	}
	// And so after restarts, torn ends and crashes, which the lane tells of.
	j := open(t, cfg, "b")
	add(j, makeAll("b", 1, 500))
	shut(t, j)
	path := last(t, cfg.Dir)
	cut(t, path, 7)
	j = open(t, cfg, "c")
	add(j, makeAll("c", 1, 500))
	shut(t, j)
	report = verified(t, cfg.Dir, proof(t, cfg.Dir))
	// The cut took the checkpoint at the end, or more; what it took of records the lane tells.
	if l := report.Lanes[Events]; l.Fault != nil {
		t.Errorf("after a torn end: %s", l.Fault)
	}
}

func TestVerifyALiveJournal(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for seq := uint64(1); seq < 20000; seq += 100 {
			add(j, makeAll("a", seq, seq+100))
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if report := verified(t, cfg.Dir, proof(t, cfg.Dir)); !report.Good() || !report.Live {
			t.Fatalf("%+v %+v", report.Lanes[0].Fault, report.Lanes[1].Fault)
		}
	}
	shut(t, j)
}

// last is the last segment of the events.
func last(t *testing.T, dir string) string {
	t.Helper()
	list, err := listSegments(dir, Events)
	if err != nil || len(list) == 0 {
		t.Fatal(err, len(list))
	}
	return list[len(list)-1].path
}

func nth(t *testing.T, dir string, n int) string {
	t.Helper()
	list, err := listSegments(dir, Events)
	if err != nil || len(list) <= n {
		t.Fatal(err, len(list))
	}
	return list[n].path
}

func cut(t *testing.T, path string, n int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()-n)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, f(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// frames is where the frames of a segment are, and of what type.
func frames(t *testing.T, path string) (offsets []int64, kinds []frameType) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	r, err := newSegmentReader(file, path)
	if err != nil {
		t.Fatal(err)
	}
	for {
		h, err := r.peek()
		if err != nil {
			return append(offsets, r.offset), kinds
		}
		offsets, kinds = append(offsets, r.offset), append(kinds, h.kind)
		r.skip(&h)
	}
}

// reseal makes the checksums and the chain of a segment right again, as somebody would who knows the format.
func reseal(t *testing.T, path string, first int) {
	t.Helper()
	change(t, path, func(text []byte) []byte {
		seed := le32(text[12:])
		var c chain
		c.start(text[:segmentHeaderSize])
		at := segmentHeaderSize
		for n := 0; at+frameOverhead <= len(text); n++ {
			stored := int(le32(text[at+8:]))
			end := at + frameHeaderSize + stored
			if n >= first {
				put32(text[at+64:], castagnoli(seed, text[at:at+64]))
			}
			c.add(text[at:at+frameHeaderSize], text[at+frameHeaderSize:end])
			copy(text[end:], c.sum[:])
			put32(text[end+32:], castagnoli(le32(text[at+64:]), text[at+frameHeaderSize:end+32]))
			at = end + frameTrailerSize
		}
		return text
	})
}

func put32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}

func TestVerifyFindsTampering(t *testing.T) {
	original := signedJournal(t)
	key := proof(t, original.Dir)
	anchors, err := ReadAnchors(filepath.Join(original.Dir, headName))
	if err != nil {
		t.Fatal(err)
	}
	key.Anchors = anchors
	for _, c := range []struct {
		name   string
		tamper func(t *testing.T, dir string)
		reason string // a part of what is said
	}{
		{"an edited byte", func(t *testing.T, dir string) {
			change(t, nth(t, dir, 1), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, "wrong checksum"},
		{"an edited frame with right checksums", func(t *testing.T, dir string) {
			path := nth(t, dir, 1)
			offsets, _ := frames(t, path)
			change(t, path, func(b []byte) []byte { b[offsets[1]+40] ^= 1; return b })
			reseal(t, path, 0)
		}, "a checkpoint is wrong"},
		{"a removed frame", func(t *testing.T, dir string) {
			path := nth(t, dir, 1)
			offsets, _ := frames(t, path)
			change(t, path, func(b []byte) []byte { return append(b[:offsets[5]:offsets[5]], b[offsets[6]:]...) })
		}, "does not follow"},
		{"a removed frame, resealed", func(t *testing.T, dir string) {
			path := nth(t, dir, 1)
			offsets, kinds := frames(t, path)
			at := 5
			for kinds[at] != frameRecords {
				at++
			}
			change(t, path, func(b []byte) []byte { return append(b[:offsets[at]:offsets[at]], b[offsets[at+1]:]...) })
			reseal(t, path, 0)
		}, "should follow"},
		{"two frames exchanged", func(t *testing.T, dir string) {
			path := nth(t, dir, 1)
			o, _ := frames(t, path)
			change(t, path, func(b []byte) []byte {
				swapped := append([]byte(nil), b[:o[6]]...)
				swapped = append(swapped, b[o[7]:o[8]]...)
				swapped = append(swapped, b[o[6]:o[7]]...)
				return append(swapped, b[o[8]:]...)
			})
		}, "does not follow"},
		{"a segment removed from the middle", func(t *testing.T, dir string) {
			must(t, os.Remove(nth(t, dir, 1)))
		}, "a segment was removed"},
		{"the oldest segment removed", func(t *testing.T, dir string) {
			must(t, os.Remove(nth(t, dir, 0)))
		}, "does not tell that it removed them"},
		{"the newest segment removed", func(t *testing.T, dir string) {
			must(t, os.Remove(last(t, dir)))
		}, "its end was cut off"},
		{"the end cut off between frames", func(t *testing.T, dir string) {
			path := last(t, dir)
			offsets, _ := frames(t, path)
			change(t, path, func(b []byte) []byte { return b[:offsets[len(offsets)-3]] })
		}, "cut"},
		{"the end cut off within a frame", func(t *testing.T, dir string) { cut(t, last(t, dir), 5) }, "no whole frame"},
		{"a segment cut short in the middle", func(t *testing.T, dir string) {
			path := nth(t, dir, 1)
			offsets, _ := frames(t, path)
			change(t, path, func(b []byte) []byte { return b[:offsets[len(offsets)-2]] })
		}, "cut short"},
		{"all removed", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "events")))
		}, "cut off"},
		{"two segments exchanged", func(t *testing.T, dir string) {
			a, b := nth(t, dir, 1), nth(t, dir, 2)
			must(t, os.Rename(a, a+"x"))
			must(t, os.Rename(b, a))
			must(t, os.Rename(a+"x", b))
		}, "it is of another file"},
		{"a segment of another journal", func(t *testing.T, dir string) {
			other := signedJournal(t)
			text, err := os.ReadFile(last(t, other.Dir))
			must(t, err)
			must(t, os.WriteFile(last(t, dir), text, 0o600))
		}, ""},
		{"a checkpoint signed by somebody else", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, keyName)))
			must(t, os.Remove(filepath.Join(dir, publicName)))
			cfg := original
			cfg.Dir = dir
			j := open(t, cfg, "b")
			add(j, makeAll("b", 1, 100))
			shut(t, j)
		}, "signed by key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "journal")
			must(t, os.CopyFS(dir, os.DirFS(original.Dir)))
			c.tamper(t, dir)
			report := verified(t, dir, key)
			f := report.Lanes[Events].Fault
			if f == nil {
				t.Fatal("nothing is wrong, it says")
			}
			if !strings.Contains(f.Reason, c.reason) {
				t.Errorf("it says %q, not %q", f, c.reason)
			}
			if f.Segment == "" || f.Record == 0 {
				t.Errorf("it does not say where: %+v", f)
			}
		})
	}
}

// TestAnchorTellsOfAWholeFolderTakenBack: what only a copy kept elsewhere can tell.
func TestAnchorTellsOfAWholeFolderTakenBack(t *testing.T) {
	cfg := config(t.TempDir())
	before := filepath.Join(t.TempDir(), "before")
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 500))
	shut(t, j)
	must(t, os.CopyFS(before, os.DirFS(cfg.Dir)))
	j = open(t, cfg, "b")
	add(j, makeAll("b", 1, 500))
	shut(t, j)
	anchors, err := ReadAnchors(filepath.Join(cfg.Dir, headName))
	must(t, err)
	p := proof(t, before)
	if report := verified(t, before, p); !report.Good() {
		t.Fatalf("%+v", report.Lanes)
	}
	p.Anchors = anchors
	f := verified(t, before, p).Lanes[Events].Fault
	if f == nil || !strings.Contains(f.Reason, "the anchor signs") {
		t.Errorf("it says %v", f)
	}
	if report := verified(t, cfg.Dir, p); !report.Good() {
		t.Errorf("%+v", report.Lanes)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestVerifyNamesTheFirstBadFrame: exactly, for every frame of a segment.
func TestVerifyNamesTheFirstBadFrame(t *testing.T) {
	cfg := signedJournal(t)
	path := nth(t, cfg.Dir, 1)
	offsets, _ := frames(t, path)
	whole, err := os.ReadFile(path)
	must(t, err)
	for i, at := range offsets[:len(offsets)-1] {
		for _, place := range []int64{at, at + frameHeaderSize, offsets[i+1] - 1} {
			text := append([]byte(nil), whole...)
			text[place] ^= 0x40
			must(t, os.WriteFile(path, text, 0o600))
			f := verified(t, cfg.Dir, proof(t, cfg.Dir)).Lanes[Events].Fault
			if f == nil || f.Segment != path || f.Offset != at {
				t.Fatalf("frame %d at %d, byte %d: %+v", i, at, place, f)
			}
		}
	}
}

func TestCheckpointSignature(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	c := Checkpoint{Journal: "j", Lane: "events", Ordinal: 7, Hash: "00ff", Time: time.Unix(1, 2).UTC()}
	c.sign(private)
	must(t, c.verify(public))
	for name, f := range map[string]func(c *Checkpoint){
		"journal":   func(c *Checkpoint) { c.Journal = "k" },
		"lane":      func(c *Checkpoint) { c.Lane = "priority" },
		"ordinal":   func(c *Checkpoint) { c.Ordinal++ },
		"hash":      func(c *Checkpoint) { c.Hash = "00fe" },
		"time":      func(c *Checkpoint) { c.Time = c.Time.Add(1) },
		"signature": func(c *Checkpoint) { c.Signature = "AAAA" },
		"no base64": func(c *Checkpoint) { c.Signature = "%" },
		"key":       func(c *Checkpoint) { c.Key = "00" },
	} {
		changed := c
		f(&changed)
		if changed.verify(public) == nil {
			t.Errorf("%s: a changed statement is believed", name)
		}
	}
}

func TestKeyIsPrivate(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.KeyFile = filepath.Join(t.TempDir(), "elsewhere")
	shut(t, open(t, cfg, "a"))
	info, err := os.Stat(cfg.KeyFile)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v", info.Mode())
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, keyName)); err == nil {
		t.Error("there is a key in the folder too")
	}
	for name, text := range map[string]string{"empty": "", "no PEM": "x", "garbage": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		must(t, os.WriteFile(cfg.KeyFile, []byte(text), 0o600))
		if _, err := Open(cfg, settings(t, "b")); err == nil || !strings.Contains(err.Error(), cfg.KeyFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
