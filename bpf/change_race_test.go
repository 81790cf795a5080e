// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/json"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// helperRaceChange cuts a file to a length of its own in each try, while another thread changes what its path means. It
// says which file that was.
func helperRaceChange(args []string) (string, error) {
	runtime.LockOSThread()
	var stop atomic.Bool
	path, err := racers()[args[0]](args[1], &stop)
	if err != nil {
		return "", err
	}
	said := racedOpens{TID: uint32(unix.Gettid())}
	for i := range raceTries() {
		if _, _, errno := unix.RawSyscall(unix.SYS_TRUNCATE, path, uintptr(i+1), 0); errno != 0 {
			said.Inodes = append(said.Inodes, 0)
			continue
		}
		cut := uint64(0)
		for _, name := range []string{"/race-0", "/race-1"} {
			var stat unix.Stat_t
			if err := unix.Stat(args[1]+name, &stat); err != nil {
				return "", err
			}
			if stat.Size == int64(i+1) {
				cut = stat.Ino
			}
		}
		said.Inodes = append(said.Inodes, cut)
	}
	stop.Store(true)
	out, err := json.Marshal(said)
	return string(out), err
}

// TestKernelChangeRaces has a second thread change what a path means that is given to truncate: each call is told once, as
// what it cut, or marked.
func TestKernelChangeRaces(t *testing.T) {
	requireKernel(t)
	w, tries := startRaceWatch(t)
	for name := range racers() {
		t.Run(name, func(t *testing.T) {
			dir, inodes := raceFiles(t)
			helper := w.run(helperRun{action: "race change", args: []string{name, dir}})
			var said racedOpens
			if err := json.Unmarshal([]byte(helper.said), &said); err != nil {
				t.Fatal(err)
			}
			found := w.await(tries, func(r *Record) bool {
				change, ok := r.Payload.(*event.FileChange)
				return ok && r.Task.PID == helper.pid && r.Task.TID == said.TID && change.Operation == event.FileTruncate
			})
			wrong, marked, changes := 0, 0, 0
			for i, r := range found {
				change := r.Payload.(*event.FileChange)
				if change.Claimed {
					marked++
				} else if i < len(said.Inodes) && change.Inode != said.Inodes[i] {
					wrong++
				}
				if change.Inode == inodes[1] {
					changes++
				}
			}
			if len(found) != tries || wrong != 0 {
				t.Errorf("%d changes are told, %d of them wrong; want %d, none wrong", len(found), wrong, tries)
			}
			if w.resolvesChanges() && marked != 0 {
				t.Errorf("%d changes are marked; where the kernel says what they meant no mark is needed", marked)
			}
			t.Logf("%d of %d tries cut the second file, %d are marked", changes, tries, marked)
		})
	}
}
