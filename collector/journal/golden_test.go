// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the recorded journal of this version anew")

// TestRecordedJournal reads, verifies and goes on with a journal that was recorded when this version of the
// format was new: whatever changes, what was written then must be readable. A change of the format is a new
// version, with a recording of its own.
func TestRecordedJournal(t *testing.T) {
	recorded := filepath.Join("testdata", "v1")
	if *update {
		cfg := config(recorded)
		must(t, os.RemoveAll(recorded))
		j := open(t, cfg, "a")
		add(j, makeAll("a", 1, 201))
		shut(t, j)
		j = open(t, cfg, "b")
		add(j, makeAll("b", 1, 11))
		shut(t, j)
		for _, name := range []string{"lock", "key", quarantineName} { // the key is nobody's any more
			must(t, os.Remove(filepath.Join(recorded, name)))
		}
	}
	report := verified(t, recorded, proof(t, recorded))
	if !report.Good() {
		t.Fatalf("it does not verify: %v %v", report.Lanes[0].Fault, report.Lanes[1].Fault)
	}
	if l := report.Lanes[Events]; l.Next != 207 || l.Checkpoints != 2 {
		t.Errorf("the report: %+v", l)
	}
	dir := filepath.Join(t.TempDir(), "journal")
	must(t, os.CopyFS(dir, os.DirFS(recorded)))
	r, err := OpenReader(dir, Query{})
	must(t, err)
	defer r.Close()
	// In the order in which they were made: all of the first start, then the second.
	for i := range uint64(210) {
		want := made("a", i+1)
		if i >= 200 {
			want = made("b", i-199)
		}
		e, ok, err := r.Next()
		must(t, err)
		if !ok || !same(e, &want) {
			t.Fatalf("event %d: %v %+v", i, ok, e)
		}
	}
	if _, ok, err := r.Next(); ok || err != nil {
		t.Errorf("there is more: %v %v", ok, err)
	}
	cfg := config(dir)
	j := open(t, cfg, "c")
	add(j, makeAll("c", 1, 51))
	if lost := j.Losses(); len(lost) != 0 {
		t.Errorf("losses: %+v", lost)
	}
	shut(t, j)
	next, ok, err := r.Next()
	must(t, err)
	if want := made("c", 1); !ok || !same(next, &want) {
		t.Errorf("after going on: %v %+v", ok, next)
	}
}
