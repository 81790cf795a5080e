// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// What the flood is made of: how many calls of one kind, between which so many of others are made, with a window of the budget between.
const (
	floodRounds = 5
	floodCalls  = 2000
)

// helperNotableFlood makes the same notable call again and again, and others now and then: one that is told by its name, and a signal.
func helperNotableFlood([]string) (string, error) {
	parent := unix.Getppid()
	for round := range floodRounds {
		for i := range floodCalls {
			if i == floodCalls/2 {
				fd, err := unix.MemfdCreate("round "+strconv.Itoa(round), 0)
				if err != nil {
					return "", err
				}
				if err := unix.Close(fd); err != nil {
					return "", err
				}
				if err := unix.Kill(parent, unix.SIGURG); err != nil {
					return "", err
				}
			}
			// It changes nothing, and says who the process is to file systems.
			unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0)
			if err := unix.Kill(parent, unix.SIGWINCH); err != nil {
				return "", err
			}
		}
		time.Sleep(floodWindow)
	}
	return "", nil
}

// floodWindow is longer than a budget lasts (EVENT_WINDOW).
const floodWindow = 120 * time.Millisecond

// TestKernelNotableFlood: of a flood of one notable call beyond the budget each is counted, and it hides no other call, and of
// signals none of another number.
func TestKernelNotableFlood(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.KeptBudget = 64 << 10
	w := startWatchWith(t, cfg)
	helper := w.run(helperRun{action: "notable flood"})
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	told, names, signals := map[string]int{}, map[string]bool{}, map[string]int{}
	for _, c := range w.notables(helper.pid, floodRounds) {
		told[c.Name]++
		switch c.Name {
		case "memfd_create":
			names[c.Argument("name")] = true
		case "kill":
			signals[c.Argument("sig")]++
		}
	}
	if len(names) != floodRounds || signals["SIGURG"] != floodRounds {
		t.Errorf("told are the files of %d rounds and the signals of %d, want those of %d", len(names), signals["SIGURG"], floodRounds)
	}
	// What else is told, as of what a library asks the kernel when it starts, is counted by its kind.
	sum := map[string]uint64{}
	for _, r := range w.seen(func(r *Record) bool { _, ok := r.Payload.(*event.SyscallNotable); return ok }) {
		if r.Payload.(*event.SyscallNotable).Target != nil {
			sum["signal"]++
		} else {
			sum[string(event.KindSyscallNotable)]++
		}
	}
	counts, err := w.tracer.Counts()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if c.Sandbox != w.id || c.Probe != "notable" {
			continue
		}
		t.Logf("%s: %d seen, %d throttled, %d dropped, %d told", c.Kind, c.Seen, c.Throttled, c.Dropped, sum[c.Kind])
		if c.Seen < floodRounds*floodCalls || c.Seen-c.Aggregated-c.Throttled-c.Dropped != sum[c.Kind] {
			t.Errorf("%+v, of which %d were told", c, sum[c.Kind])
		}
		if c.Throttled == 0 {
			t.Errorf("nothing of %s was throttled: it was no flood", c.Kind)
		}
	}
}
