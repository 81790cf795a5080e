// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// worked is what a session in /work with so many programs makes of baselines.
func worked(b *Baselines, sandbox string, programs ...string) {
	d := newFirstSeen(&Config{MaxSandboxes: 4, MaxEntries: 64, Baselines: b.cfg}, b)
	show := func(p *event.Process, payload event.Payload) {
		e := &event.Event{Time: time.Unix(1000, 0), Instance: "t", Sandbox: &event.Sandbox{ID: sandbox}, Process: p, Payload: payload}
		d.Detect(e, func(*event.Finding) {})
	}
	top := &event.Process{UID: 1, Agent: &event.Agent{Name: "codex"}}
	show(top, &event.ProcessExec{Executable: "/usr/bin/codex", WorkingDirectory: "/work"})
	for _, program := range programs {
		show(&event.Process{UID: 2, Parent: top, Agent: top.Agent}, &event.ProcessExec{Executable: program})
	}
	show(nil, &event.SandboxStop{})
}

func newUsual(most int) *Baselines {
	cfg := DefaultConfig()
	cfg.Baselines.MaxProfiles = most
	return NewBaselines(&cfg)
}

func encoded(t testing.TB, b *Baselines) []byte {
	t.Helper()
	var text bytes.Buffer
	if _, err := b.Encode(&text); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// TestBaselinesSurvive: what was learned is the same after a restart, and a collector that shares the file loses nothing.
func TestBaselinesSurvive(t *testing.T) {
	first := newUsual(8)
	for i := range 5 {
		worked(first, fmt.Sprint("s", i), "/usr/bin/make")
	}
	text := encoded(t, first)
	second := newUsual(8)
	if err := second.Restore(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if again := encoded(t, second); !bytes.Equal(text, again) {
		t.Errorf("it changed:\n%s\n%s", text, again)
	}
	p := second.learned.profiles[profileID{"codex", "/work"}]
	if p == nil || p.sessions != 5 || p.binaries.count != 2 {
		t.Fatalf("restored as %+v", p)
	}
	// Both go on; the second writes first, the first puts what it has on top.
	if err := first.Restore(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	last, err := first.Encode(&bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	first.Saved(last)
	if first.Unsaved() {
		t.Fatal("something is unsaved")
	}
	// Restored as it is written, what was pending would count twice: the caller saves before it restores again.
	if err := first.Restore(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	worked(second, "s5", "/usr/bin/gcc")
	worked(first, "s6", "/usr/bin/ld")
	if err := first.Restore(bytes.NewReader(encoded(t, second))); err != nil {
		t.Fatal(err)
	}
	if p := first.learned.profiles[profileID{"codex", "/work"}]; p.sessions != 7 || p.binaries.count != 4 || !first.Unsaved() {
		t.Errorf("together %+v", p)
	}
}

// TestBadBaselines: a file that is none, or was changed, is refused as a whole and changes nothing.
func TestBadBaselines(t *testing.T) {
	b := newUsual(8)
	worked(b, "s1", "/usr/bin/make")
	good := encoded(t, b)
	for name, text := range map[string][]byte{
		"empty":           nil,
		"another format":  []byte("watchglass.baselines/v9 00\n{}"),
		"cut":             good[:len(good)-3],
		"one byte":        bytes.Replace(good, []byte("codex"), []byte("coder"), 1),
		"too long":        make([]byte, mostLearned+1),
		"no checksum":     []byte(learnedFormat + "\n{}"),
		"a text":          signed("[]"),
		"no key":          signed("{}"),
		"sessions":        signed(`{"key":"` + strings.Repeat("A", 43) + `=","profiles":[{"sessions":-1}]}`),
		"unsorted":        signed(`{"key":"` + strings.Repeat("A", 43) + `=","profiles":[{"binaries":{"count":2,"exact":"AQAAAAAAAAAAAAAAAAAAAA=="}}]}`),
		"a false count":   signed(`{"key":"` + strings.Repeat("A", 43) + `=","profiles":[{"binaries":{"count":7,"exact":"AQAAAAAAAAA="}}]}`),
		"a short filter":  signed(`{"key":"` + strings.Repeat("A", 43) + `=","profiles":[{"sites":{"count":2000,"filter":"AQAAAAAAAAA="}}]}`),
		"a huge variance": signed(`{"key":"` + strings.Repeat("A", 43) + `=","profiles":[{"rates":{"exec":{"mean":1,"variance":1e300,"windows":3}}}]}`),
	} {
		if err := b.Restore(bytes.NewReader(text)); !errors.Is(err, ErrBaselines) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !bytes.Equal(encoded(t, b), good) {
		t.Error("a bad file changed what was learned")
	}
	if err := b.Restore(bytes.NewReader(good)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// TestNames holds the set to its word: exact at first, then a filter that forgets nothing and seldom lies, then full.
func TestNames(t *testing.T) {
	l, n, buffer := newLearned(1), names{}, []byte(nil)
	hash := func(i int) (h uint64) {
		h, buffer = l.hash(buffer, newBinary, fmt.Sprint("/usr/bin/tool-", i))
		return h
	}
	for i := range mostFiltered {
		if i == mostExact && n.filter != nil || i > mostExact && n.filter == nil {
			t.Fatalf("after %d names the filter is %v", i, n.filter != nil)
		}
		n.add(hash(i))
	}
	for i := range mostFiltered {
		if !n.has(hash(i)) {
			t.Fatalf("it forgot name %d", i)
		}
	}
	lies := 0
	for i := range 10000 {
		if n.has(hash(1e6 + i)) {
			lies++
		}
	}
	if lies > 500 { // 2.4 % is what the arithmetic says
		t.Errorf("%d of 10,000 new names are known", lies)
	}
	refused := 0
	for i := range 100000 {
		if !n.add(hash(2e6 + i)) {
			refused++
		}
	}
	if n.count != mostFiltered || refused < 90000 || len(n.exact)*8+len(n.filter) > filterBytes {
		t.Errorf("%d names, %d refused, %d bytes", n.count, refused, len(n.exact)*8+len(n.filter))
	}
}

// TestProfilesAreBounded: the profile used longest ago goes.
func TestProfilesAreBounded(t *testing.T) {
	l := newLearned(3)
	for i := range 10 {
		l.take(&lesson{profile: profileID{"codex", fmt.Sprint("/p", i)}, sandbox: "s", at: time.Unix(int64(i), 0)})
	}
	for i := range 10 {
		if _, have := l.profiles[profileID{"codex", fmt.Sprint("/p", i)}]; have != (i >= 7) {
			t.Errorf("/p%d: %t", i, have)
		}
	}
	if l.evicted != 7 {
		t.Errorf("%d evicted", l.evicted)
	}
}

func TestSite(t *testing.T) {
	for name, want := range map[string]string{
		"example.com": "example.com", "a.b.example.com.": "example.com", "www.example.co.uk": "example.co.uk", "a.example.de": "example.de",
		"evil.github.io": "evil.github.io", "a.evil.github.io": "a.evil.github.io", "bucket.s3.amazonaws.com": "bucket.s3.amazonaws.com",
		"localhost": "", "printer.local": "", "1.0.0.127.in-addr.arpa": "", "": "", ".": "", ".com": "", "..": "",
	} {
		if got := site(name); got != want {
			t.Errorf("site(%q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzRestore(f *testing.F) {
	b := newUsual(8)
	worked(b, "s1", "/usr/bin/make")
	_, body, _ := bytes.Cut(encoded(f, b), []byte("\n"))
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		b := newUsual(8)
		if b.Restore(bytes.NewReader(signed(string(body)))) != nil {
			return
		}
		again := newUsual(8)
		if err := again.Restore(bytes.NewReader(encoded(t, b))); err != nil {
			t.Fatalf("what was restored cannot be: %v", err)
		}
		worked(b, "s2", "/usr/bin/make")
	})
}

// signed is a file whose checksum is right.
func signed(body string) []byte {
	sum := sha256.Sum256([]byte(body))
	return []byte(learnedFormat + " " + hex.EncodeToString(sum[:]) + "\n" + body)
}
