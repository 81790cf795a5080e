// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// watchSecrets watches files that are called secret.
func watchSecrets() Config {
	cfg := testConfig()
	cfg.Watched = func(path string) bool { return filepath.Base(path) == "secret" }
	return cfg
}

// opensOf sums up what was told of the opens of a file by a process: how many, and in how many events.
func (w *watch) opensOf(pid uint32, path string) (opens uint64, events int) {
	for _, r := range w.seen(func(r *Record) bool { return openOf(r) != nil && r.Task.PID == pid && openOf(r).Path == path }) {
		events++
		opens += max(openOf(r).Count, 1)
	}
	return opens, events
}

// TestKernelFileRepeats opens two files many times: of the one that is watched each open is told, of the other
// none is lost.
func TestKernelFileRepeats(t *testing.T) {
	requireKernel(t)
	w := startWatchShared(t, shared.secrets)
	dir := makeFiles(t)
	const times = 3000
	for _, c := range []struct {
		name   string
		events func(n int) bool
	}{
		{"plain", func(n int) bool { return n < times/2 }},
		{"secret", func(n int) bool { return n == times }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, c.name)
			helper := w.run(helperRun{action: "open slowly", args: []string{strconv.Itoa(times), path}})
			w.await(1, of[*event.ProcessExit](int(helper.pid)))
			opens, events := w.opensOf(helper.pid, path)
			if opens != times || !c.events(events) {
				t.Errorf("%d opens are told by %d events, want %d opens", opens, events, times)
			}
			t.Logf("%d opens are told by %d events", opens, events)
		})
	}
	counts, err := w.tracer.Counts()
	if err != nil {
		t.Fatal(err)
	}
	var seen, aggregated, lost uint64
	for _, c := range counts {
		if c.Kind == string(event.KindFileOpen) && c.Sandbox == w.id {
			seen, aggregated, lost = c.Seen, c.Aggregated, c.Dropped+c.Throttled
		}
	}
	told := len(w.seen(func(r *Record) bool { return openOf(r) != nil && openOf(r).Count == 0 }))
	if seen != uint64(told)+aggregated+lost || aggregated == 0 {
		t.Errorf("%d opens were seen, %d told, %d aggregated, %d lost", seen, told, aggregated, lost)
	}
}

// TestKernelFileRepeatsRenamed has a file that is opened again and again become a watched one by its name alone.
func TestKernelFileRepeatsRenamed(t *testing.T) {
	requireKernel(t)
	w := startWatchShared(t, shared.secrets)
	dir := makeFiles(t)
	if err := os.Remove(dir + "/secret"); err != nil {
		t.Fatal(err)
	}
	helper := w.run(helperRun{action: "rename and open", args: []string{dir}})
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	for name, want := range map[string]uint64{"plain": 600, "secret": 100} {
		if opens, events := w.opensOf(helper.pid, dir+"/"+name); opens != want || name == "secret" && events != int(want) {
			t.Errorf("%s: %d opens are told by %d events, want %d", name, opens, events, want)
		}
	}
}

// helperOpenSlowly opens a file so many times, with a pause after the first ones: the collector has to see them.
func helperOpenSlowly(args []string) (string, error) {
	times, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	return "", openTimes(args[1], times)
}

func openTimes(path string, times int) error {
	runtime.LockOSThread()
	for i := range times {
		if i < 3 || i%500 == 0 {
			pause := unix.NsecToTimespec(60_000_000)
			_ = unix.Nanosleep(&pause, nil)
		}
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			return fmt.Errorf("open %d: %w", i, err)
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return nil
}

// TestKernelRepeatPlaces has opens come to the places of others: those that find none are not counted, and what is counted at a
// place that was given back is lost to nobody.
func TestKernelRepeatPlaces(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.Watched = func(string) bool { return false }
	tracer := openOwn(t, cfg)
	defer tracer.Close()
	kernel := &tracer.repeats.kernel
	begin := func(inode uint64) (uint32, bool) {
		return kernel.begin(fileRepeatKey{Mix: 1<<32 | 1, Inode: inode, Pid: 1}, 0)
	}
	count := func(place uint32, n uint64) {
		t.Helper()
		at, err := kernel.counted(place)
		at.Count = n
		if err := errors.Join(err, kernel.places.Put(place, at)); err != nil {
			t.Fatal(err)
		}
	}
	first, ok := begin(1)
	second, also := begin(2)
	if _, more := begin(3); !ok || !also || more || first == second {
		t.Fatalf("places %d (%v) and %d (%v), and one more: %v", first, ok, second, also, more)
	}
	count(second, 7)
	if err := errors.Join(kernel.told(second, 5, false), kernel.told(first, 0, true)); err != nil {
		t.Fatal(err)
	}
	count(first, 3) // by a program that had found it before
	again, ok := begin(3)
	if !ok || again != first {
		t.Errorf("the next open has place %d (%v), want %d", again, ok, first)
	}
	for place, want := range map[uint32]uint64{first: 0, second: 2} {
		if at, err := kernel.counted(place); err != nil || at.Count != want {
			t.Errorf("%d opens are counted at place %d (%v), want %d", at.Count, place, err, want)
		}
	}
	counts, err := tracer.Counts()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][3]uint64{}
	for _, c := range counts {
		got[c.Kind] = [3]uint64{c.Seen, c.Aggregated, c.Dropped}
	}
	if got := got[string(event.KindFileOpen)]; got != [3]uint64{8, 5, 3} {
		t.Errorf("%d opens are seen, aggregated and dropped, want 8, 5 and 3", got)
	}
}

func helperRenameAndOpen(args []string) (string, error) {
	plain, secret := args[0]+"/plain", args[0]+"/secret"
	if err := openTimes(plain, 600); err != nil {
		return "", err
	}
	if err := unix.Rename(plain, secret); err != nil {
		return "", err
	}
	return "", openTimes(secret, 100)
}

func TestRepeatsAreBounded(t *testing.T) {
	table := newRepeats(countedOpens{}, func(string) bool { return false }, testDecoder().clock)
	for i := range uint64(maxRepeatCandidates * 2) {
		r := &Record{mix: i + 1, Payload: &event.FileOpen{Path: "/" + strings.Repeat("x", 3), Inode: i}}
		table.note(r)
	}
	if len(table.opens) > maxRepeatCandidates || len(table.order) > maxRepeatCandidates {
		t.Errorf("%d opens are remembered, want no more than %d", len(table.opens), maxRepeatCandidates)
	}
	watched := newRepeats(countedOpens{}, func(path string) bool { return path == "/secret" }, testDecoder().clock)
	for _, open := range []*event.FileOpen{
		{Path: "/secret"},
		{Path: "/inner", HostPath: "/secret"},
		{Path: "/decoy", Asked: "/secret"},
		{Path: "/raced", Raced: true},
		{Path: "/claimed", Claimed: true},
		{Path: "/secret", Claimed: true, Error: 2},
		{Path: "/x/../secret", Claimed: true, Error: 2},
		{Path: "nowhere", Claimed: true, Error: 2},
	} {
		watched.note(&Record{mix: 1, Payload: open})
	}
	watched.note(&Record{Payload: &event.FileOpen{Path: "/always told"}})
	if len(watched.opens) != 0 {
		t.Errorf("%d opens may be told by a count, want none", len(watched.opens))
	}
}
