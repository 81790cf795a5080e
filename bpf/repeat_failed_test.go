// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// timesToFail is how often helperFailSlowly tries to open each file.
const timesToFail = 1500

// helperFailSlowly tries to open files that are not there, in turn, with pauses first: the collector has to see them. The first
// argument is the directory to be in.
func helperFailSlowly(args []string) (string, error) {
	if err := unix.Chdir(args[0]); err != nil {
		return "", err
	}
	runtime.LockOSThread()
	for i := range timesToFail {
		if i < 3 || i%500 == 0 {
			pause := unix.NsecToTimespec(60_000_000)
			_ = unix.Nanosleep(&pause, nil)
		}
		for _, path := range args[1:] {
			if _, err := unix.Open(path, unix.O_RDONLY, 0); err == nil {
				return "", errors.New(path + " is there")
			}
		}
	}
	return "", nil
}

// TestKernelFailedOpens has opens fail many times: of a path that is watched each is told, of others none is lost, whatever
// they have in common, and each is marked as the caller's word where it is.
func TestKernelFailedOpens(t *testing.T) {
	requireKernel(t)
	w := startWatchShared(t, shared.secrets)
	dir := makeFiles(t)
	deep := strings.Repeat("/deep", 60)
	missing := map[string]struct {
		errno   event.Errno
		watched bool
		told    string
	}{
		dir + "/missing":             {errno: event.Errno(unix.ENOENT)},
		dir + "/no/secret":           {errno: event.Errno(unix.ENOENT), watched: true},
		dir + "/plain/below":         {errno: event.Errno(unix.ENOTDIR)},
		"no/relative":                {errno: event.Errno(unix.ENOENT), told: dir + "/no/relative"},
		"no/../no/secret":            {errno: event.Errno(unix.ENOENT), watched: true, told: dir + "/no/../no/secret"},
		dir + deep + "/a/the same":   {errno: event.Errno(unix.ENOENT)},
		dir + deep + "/b/the same":   {errno: event.Errno(unix.ENOENT)},
		dir + deep + "/c/secret":     {errno: event.Errno(unix.ENOENT), watched: true},
		dir + deep + "/c/secret/..":  {errno: event.Errno(unix.ENOENT)},
		dir + "/no/such/secret/../x": {errno: event.Errno(unix.ENOENT)},
	}
	args := []string{dir}
	for path := range missing {
		args = append(args, path)
	}
	helper := w.run(helperRun{action: "fail slowly", args: args})
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	for path, want := range missing {
		if want.told == "" {
			want.told = path
		}
		opens, events := w.opensOf(helper.pid, want.told)
		if opens != timesToFail {
			t.Errorf("%s: %d failed opens are told, want %d", want.told, opens, timesToFail)
		}
		if want.watched && events != timesToFail || !want.watched && events > timesToFail/2 {
			t.Errorf("%s: %d failed opens are told by %d events", want.told, opens, events)
		}
		for _, r := range w.seen(func(r *Record) bool {
			return openOf(r) != nil && r.Task.PID == helper.pid && openOf(r).Path == want.told
		}) {
			open := openOf(r)
			if claimed := w.tracer.Plan() == PlanTracepoint; open.Error != want.errno || open.Claimed != claimed || open.Raced {
				t.Errorf("%s: error %d, claimed %v, raced %v", want.told, open.Error, open.Claimed, open.Raced)
				break
			}
		}
	}
	w.addsUp(event.KindFileOpen)
}

// addsUp checks that of a kind of the sandbox everything that was seen was delivered, aggregated or lost.
func (w *watch) addsUp(kind event.Kind) {
	w.t.Helper()
	counts, err := w.tracer.Counts()
	if err != nil {
		w.t.Fatal(err)
	}
	var seen, aggregated, lost uint64
	for _, c := range counts {
		if c.Kind == string(kind) && c.Sandbox == w.id {
			seen, aggregated, lost = c.Seen, c.Aggregated, c.Dropped+c.Throttled
		}
	}
	told := uint64(len(w.seen(func(r *Record) bool {
		payload, ok := r.Payload.(event.Payload)
		return ok && payload.Kind() == kind && !r.Counted
	})))
	if seen != told+aggregated+lost || aggregated == 0 {
		w.t.Errorf("%d of %s were seen, %d told, %d aggregated, %d lost", seen, kind, told, aggregated, lost)
	}
}

// TestKernelFailedOpensTurn has one path stop and begin to exist: what is counted as one that failed is not one that succeeded.
func TestKernelFailedOpensTurn(t *testing.T) {
	requireKernel(t)
	w := startWatchShared(t, shared.secrets)
	path := t.TempDir() + "/now and then"
	const rounds, times = 3, 400
	helper := w.run(helperRun{action: "fail and open", args: []string{path, fmt.Sprint(rounds), fmt.Sprint(times)}})
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	var failed, opened uint64
	for _, r := range w.seen(func(r *Record) bool { return openOf(r) != nil && r.Task.PID == helper.pid && openOf(r).Path == path }) {
		if open := openOf(r); open.Error != 0 {
			failed += open.Times()
		} else {
			opened += open.Times()
		}
	}
	// Each round creates the file once.
	if failed != rounds*times || opened != rounds*(times+1) {
		t.Errorf("%d opens failed and %d did not, want %d and %d", failed, opened, rounds*times, rounds*(times+1))
	}
	w.addsUp(event.KindFileOpen)
}

func helperFailAndOpen(args []string) (string, error) {
	var rounds, times int
	if _, err := fmt.Sscan(args[1]+" "+args[2], &rounds, &times); err != nil {
		return "", err
	}
	for range rounds {
		for i := range times {
			if i < 3 {
				pause := unix.NsecToTimespec(60_000_000)
				_ = unix.Nanosleep(&pause, nil)
			}
			if _, err := unix.Open(args[0], unix.O_RDONLY, 0); !errors.Is(err, unix.ENOENT) {
				return "", fmt.Errorf("opening what is not there: %w", err)
			}
		}
		fd, err := unix.Open(args[0], unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		if err != nil {
			return "", err
		}
		_ = unix.Close(fd)
		if err := openTimes(args[0], times); err != nil {
			return "", err
		}
		if err := os.Remove(args[0]); err != nil {
			return "", err
		}
	}
	return "", nil
}
