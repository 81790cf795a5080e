// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestResentIsBounded: what was sent again is remembered as long as it is in the quarantine, over both of its files.
func TestResentIsBounded(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.QuarantineBytes = 64 << 10
	j := open(t, cfg, "a")
	note := func() (n int) {
		t.Helper()
		r, err := OpenResent(cfg.Dir)
		must(t, err)
		malformed, err := ReadQuarantine(cfg.Dir, func(q *Quarantine) error {
			if r.At(q).IsZero() {
				n++
			}
			r.Note(q)
			return nil
		})
		if err != nil || malformed > 0 {
			t.Fatal(malformed, err)
		}
		must(t, r.Close())
		return n
	}
	for round := range 5 {
		for i := range 100 {
			e := made("a", uint64(1000*round+i+1))
			must(t, j.Quarantine("siem", "no", &e))
		}
		if n := note(); n == 0 || n > 100 {
			t.Errorf("%d are new", n)
		}
		if n := note(); n != 0 {
			t.Errorf("%d are new when nothing is", n)
		}
	}
	at, err := ReadResent(cfg.Dir)
	must(t, err)
	kept := 0
	_, err = ReadQuarantine(cfg.Dir, func(q *Quarantine) error {
		kept++
		e, want := q.Event(), made("a", q.Seq)
		want.Time = e.Time // its record tells it
		if !same(&e, &want) {
			t.Errorf("%+v", e)
		}
		return nil
	})
	must(t, err)
	if len(at) != kept || kept >= 500 {
		t.Errorf("%d are remembered, %d are there", len(at), kept)
	}
	shut(t, j)
}

// FuzzReadQuarantine: whatever is in the file, its whole lines are events or counted.
func FuzzReadQuarantine(f *testing.F) {
	f.Add([]byte("{\"destination\":\"siem\",\"seq\":1,\"record\":\"AAAA\"}\n{\"seq\":-1}\n\n[]\n{\"half"))
	f.Add([]byte(strings.Repeat("x", 70<<10) + "\n{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		for _, name := range []string{quarantineName, resentName} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		malformed, err := ReadQuarantine(dir, func(q *Quarantine) error {
			n++
			if e := q.Event(); e.Seq != q.Seq {
				t.Error(e)
			}
			return nil
		})
		if lines := strings.Count(string(text), "\n"); err != nil || n+malformed != lines {
			t.Errorf("%d lines: %d events, %d malformed, %v", lines, n, malformed, err)
		}
		if _, err := ReadResent(dir); err != nil {
			t.Error(err)
		}
	})
}
