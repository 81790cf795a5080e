// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// ringRaces is what another thread does to what a ring is given: what it can do to a system call's argument, and to the
// entry itself, which says where the path is.
func ringRaces() []string {
	return []string{"rewritten argument", "swapped symlink", "cold page", "rewritten entry"}
}

// raceEntry has every entry of a ring name one file and the other, all the time.
func raceEntry(r *ring, dir string, stop *atomic.Bool) uint64 {
	paths := [2]uint64{r.path(dir + "/race-0"), r.path(dir + "/race-1")}
	const size = unsafe.Sizeof(ringEntry{})
	spin(stop, func(i int) {
		for at := uintptr(0); at < uintptr(len(r.entries)); at += size {
			entry := (*ringEntry)(unsafe.Pointer(&r.entries[at]))
			if atomic.LoadUint64(&entry.Address) != 0 {
				atomic.StoreUint64(&entry.Address, paths[i&1])
			}
		}
	})
	return paths[0]
}

// helperRaceRing opens a path through a ring again and again while another thread changes what that means.
func helperRaceRing(args []string) (string, error) {
	name, mode, dir := args[0], ringModes()[args[1]], args[2]
	r, err := newRing(mode.setup)
	if err != nil {
		return "no io_uring: " + err.Error(), nil
	}
	defer r.close()
	var stop atomic.Bool
	defer stop.Store(true)
	var path uint64
	if name == "rewritten entry" {
		path = raceEntry(r, dir, &stop)
	} else {
		at, err := racers()[name](dir, &stop)
		if err != nil {
			return "", err
		}
		path = uint64(at)
	}
	said := racedOpens{}
	for range raceTries() {
		fd, err := r.do(ringEntry{Op: ringOpOpenat, Flags: mode.entry, FD: currentDirectory, Address: path})
		if errnoOf(err) != 0 {
			said.Inodes = append(said.Inodes, 0)
			continue
		}
		if err != nil {
			return "", err
		}
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return "", err
		}
		said.Inodes = append(said.Inodes, stat.Ino)
		if err := unix.Close(fd); err != nil {
			return "", err
		}
	}
	out, err := json.Marshal(said)
	return string(out), err
}

// TestKernelRingRaces has a second thread change what an open through a ring means: each is told once, as what it was, or
// marked.
func TestKernelRingRaces(t *testing.T) {
	requireKernel(t)
	w, tries := startRaceWatch(t)
	for _, mode := range []string{"inline", "sqpoll"} {
		for _, name := range ringRaces() {
			t.Run(mode+"/"+name, func(t *testing.T) {
				dir, inodes := raceFiles(t)
				helper := w.run(helperRun{action: "race ring", args: []string{name, mode, dir}})
				requireRing(t, helper.said)
				var said racedOpens
				if err := json.Unmarshal([]byte(helper.said), &said); err != nil {
					t.Fatal(err)
				}
				found := w.await(tries, func(r *Record) bool {
					return openOf(r) != nil && r.Task.PID == helper.pid && openOf(r).Via == event.ViaURing
				})
				wrong, marked, changes := 0, 0, 0
				for i, r := range found {
					open := openOf(r)
					if open.Raced || open.Claimed {
						if marked == 0 {
							t.Logf("the first that is marked is %d: %+v", i, open)
						}
						marked++
					} else if i < len(said.Inodes) && open.Inode != said.Inodes[i] {
						wrong++
					}
					if open.Inode == inodes[1] {
						changes++
					}
				}
				if len(found) != tries || wrong != 0 {
					t.Errorf("%d opens are told, %d of them wrong; want %d, none wrong", len(found), wrong, tries)
				}
				if marked != 0 {
					t.Errorf("%d opens are marked; nobody replaces their descriptors", marked)
				}
				t.Logf("%d of %d tries opened the second file", changes, tries)
			})
		}
	}
}
