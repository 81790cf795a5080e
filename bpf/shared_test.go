// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
)

// shared is the tracers of the tests that look at their own sandbox alone, by what these ask of the configuration. Tests have
// nothing in common but the package.
var shared = struct{ usual, secrets, counts *sharedTracer }{
	usual: &sharedTracer{config: testConfig}, secrets: &sharedTracer{config: watchSecrets}, counts: &sharedTracer{config: countCalls},
}

// sharedTracer is one tracer that tests use by turns: in an emulated machine opening one and closing it takes longer than most
// tests. It is opened when one needs it, and stays open beside tracers that tests open for themselves.
type sharedTracer struct {
	config func() Config
	tracer *Tracer
	// user is the test that is at work with it, "" between tests.
	user string
	// past is the sandboxes of the tests before.
	past map[uint64]bool
}

// TestMain closes what the tests shared.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, "a tracer that tests shared:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// take lends the tracer to a test until that gives it back. What was seen before is told to nobody.
func (s *sharedTracer) take(t *testing.T) *Tracer {
	t.Helper()
	if s.user != "" {
		t.Fatalf("%s is at work with the shared tracer: a test watches by it once", s.user)
	}
	if s.tracer == nil {
		tracer, err := Open(s.config())
		if err != nil {
			t.Fatalf("opening the tracer: %v", err)
		}
		s.tracer, s.past = tracer, map[uint64]bool{}
	}
	// A run that has ended as it begins delivers what there is.
	ended, end := context.WithCancel(context.Background())
	end()
	if err := s.tracer.Run(ended, func(*Record) {}); err != nil {
		t.Fatalf("emptying the ring: %v", err)
	}
	s.user = t.Name()
	return s.tracer
}

// give takes it back from a test, which nobody has it run for any more. A test that failed may have left it in any state: the
// next one gets another.
func (s *sharedTracer) give(t *testing.T) {
	t.Helper()
	s.user = ""
	s.tracer.mu.Lock()
	used := slices.Collect(maps.Keys(s.tracer.tracked))
	s.tracer.mu.Unlock()
	if n := s.tracer.Undecoded(); n != 0 {
		t.Errorf("%d records could not be decoded", n)
	}
	for _, id := range used {
		s.past[id] = true
		if err := s.tracer.Untrack(id); err != nil {
			t.Errorf("no longer watching: %v", err)
		}
	}
	if t.Failed() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// late says whether a record is of a test before: a connection of its sandbox may end at any time.
func (s *sharedTracer) late(r *Record) bool { return s.past[r.Sandbox] }

// close closes the tracer, if it is open.
func (s *sharedTracer) close() error {
	tracer := s.tracer
	if tracer == nil {
		return nil
	}
	s.tracer = nil
	return tracer.Close()
}

func closeShared() error {
	return errors.Join(shared.usual.close(), shared.secrets.close(), shared.counts.close())
}

// beAlone has no tracer be open but what the test opens: it looks at all that is attached on the machine.
func beAlone(tb testing.TB) {
	tb.Helper()
	if err := closeShared(); err != nil {
		tb.Fatal(err)
	}
}
