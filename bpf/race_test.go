// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// emulatedTries is how often a race is run on an emulated processor.
const emulatedTries = 500

// raceTries is how often each race is run. With one processor threads take turns and hardly ever race; one that
// is emulated takes minutes for what another does in a second.
func raceTries() int {
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	if runtime.NumCPU() < 2 || strings.Contains(string(cpu), "QEMU") {
		return emulatedTries
	}
	return 10_000
}

// startRaceWatch is startWatch for so many tries, none of which may be lost: on a fast processor ten thousand take a tenth of a
// second or two, and with what the racing thread does are more than a sandbox may send by default meanwhile.
func startRaceWatch(t *testing.T) (w *watch, tries int) {
	t.Helper()
	tries = raceTries()
	if tries == emulatedTries {
		return startWatch(t), tries
	}
	cfg := testConfig()
	cfg.BulkBudget, cfg.KeptBudget, cfg.RingBytes = 0, 0, 64<<20
	return startWatchWith(t, cfg), tries
}

// breathe lets the other thread run where there is no processor for it.
func breathe() {
	if runtime.NumCPU() < 2 {
		runtime.Gosched()
	}
}

// racedOpens is what a racing helper says: the thread that opened, and what it got for each try: the inode of the
// file, 0 where the open failed.
type racedOpens struct {
	TID    uint32
	Inodes []uint64
}

// racers is the races by name: each starts the other thread, which runs until stop, and returns the address of
// the path to open.
func racers() map[string]func(dir string, stop *atomic.Bool) (uintptr, error) {
	return map[string]func(string, *atomic.Bool) (uintptr, error){
		"rewritten argument": raceArgument,
		"swapped symlink":    raceSymlink,
		"cold page":          raceColdPage,
	}
}

// spin runs do in a thread of its own until stop.
func spin(stop *atomic.Bool, do func(i int)) {
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(started)
		for i := 0; !stop.Load(); i++ {
			do(i)
			breathe()
		}
	}()
	<-started
}

// raceArgument rewrites the path from one file to another all the time.
func raceArgument(dir string, stop *atomic.Bool) (uintptr, error) {
	path := append([]byte(dir+"/race-0"), 0)
	digit := (*uint8)(unsafe.Pointer(&path[len(path)-2]))
	spin(stop, func(i int) { *digit = '0' + uint8(i&1) })
	return uintptr(unsafe.Pointer(&path[0])), nil
}

// raceSymlink makes the path, a symlink, point to one file and the other.
func raceSymlink(dir string, stop *atomic.Bool) (uintptr, error) {
	// Not Go's memory: nobody but the kernel has the address, and what stood there would be reused.
	path, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 0, err
	}
	copy(path, dir+"/race-link")
	swap := func(i int) {
		_ = os.Symlink(fmt.Sprintf("race-%d", i&1), dir+"/next")
		_ = os.Rename(dir+"/next", dir+"/race-link")
	}
	swap(0)
	spin(stop, swap)
	return uintptr(unsafe.Pointer(&path[0])), nil
}

// raceColdPage takes the page of the path out of memory all the time; it comes back from a file.
func raceColdPage(dir string, stop *atomic.Bool) (uintptr, error) {
	if err := os.WriteFile(dir+"/page", append([]byte(dir+"/race-0"), make([]byte, 4096)...), 0o600); err != nil {
		return 0, err
	}
	fd, err := unix.Open(dir+"/page", unix.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	page, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return 0, err
	}
	spin(stop, func(int) { _ = unix.Madvise(page, unix.MADV_DONTNEED) })
	return uintptr(unsafe.Pointer(&page[0])), nil
}

// helperRace opens a path again and again while another thread changes what it means.
func helperRace(args []string) (string, error) {
	runtime.LockOSThread()
	var stop atomic.Bool
	path, err := racers()[args[0]](args[1], &stop)
	if err != nil {
		return "", err
	}
	said := racedOpens{TID: uint32(unix.Gettid())}
	for range raceTries() {
		fd, errno := openRead(path)
		if errno != 0 {
			said.Inodes = append(said.Inodes, 0)
			continue
		}
		var stat unix.Stat_t
		if err := unix.Fstat(int(fd), &stat); err != nil {
			return "", err
		}
		said.Inodes = append(said.Inodes, stat.Ino)
		if err := unix.Close(int(fd)); err != nil {
			return "", err
		}
	}
	stop.Store(true)
	out, err := json.Marshal(said)
	return string(out), err
}

// raceFiles makes the two files that races are about.
func raceFiles(t *testing.T) (dir string, inodes [2]uint64) {
	t.Helper()
	dir = makeFiles(t)
	for i := range inodes {
		path := fmt.Sprintf("%s/race-%d", dir, i)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			t.Fatal(err)
		}
		inodes[i] = stat.Ino
	}
	return dir, inodes
}

// TestKernelFileRaces has a second thread change what an open means: each open is told once, as what it was.
func TestKernelFileRaces(t *testing.T) {
	requireKernel(t)
	w, tries := startRaceWatch(t)
	for name := range racers() {
		t.Run(name, func(t *testing.T) {
			dir, inodes := raceFiles(t)
			helper := w.run(helperRun{action: "race", args: []string{name, dir}})
			var said racedOpens
			if err := json.Unmarshal([]byte(helper.said), &said); err != nil {
				t.Fatal(err)
			}
			found := w.await(tries, func(r *Record) bool {
				return openOf(r) != nil && r.Task.PID == helper.pid && r.Task.TID == said.TID && filepath.Dir(openOf(r).Path) == dir
			})
			wrong, marked, i, changes := 0, 0, 0, 0
			for _, r := range found {
				open := openOf(r)
				if open.Path == dir+"/page" {
					continue
				}
				if i < len(said.Inodes) && open.Inode != said.Inodes[i] && !open.Raced && !open.Claimed {
					wrong++
				}
				if open.Raced || open.Claimed {
					marked++
				}
				if open.Inode != 0 && open.Path != dir+"/race-0" && open.Path != dir+"/race-1" {
					t.Fatalf("an open of %q", open.Path)
				}
				if open.Inode == inodes[1] {
					changes++
				}
				i++
			}
			if i != tries || wrong != 0 {
				t.Errorf("%d opens are told, %d of them wrong; want %d, none wrong", i, wrong, tries)
			}
			if w.tracer.Plan() == PlanTrampoline && marked != 0 {
				t.Errorf("%d opens are marked; the trampoline plan needs no mark", marked)
			}
			t.Logf("%d of %d tries opened the second file", changes, tries)
		})
	}
}

// helperReplace opens one file all the time while another thread puts a decoy in the place of the descriptor.
func helperReplace(args []string) (string, error) {
	runtime.LockOSThread()
	dir, how := args[1], args[0]
	// The runtime makes the descriptors that it polls with when it needs them: before, lest they are closed below.
	polled, polledEnd, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer polled.Close()
	defer polledEnd.Close()
	decoy, err := unix.Open(dir+"/race-1", unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	// The number that the next open gets.
	next, err := unix.Dup(decoy)
	if err != nil {
		return "", err
	}
	if err := unix.Close(next); err != nil {
		return "", err
	}
	other, err := unix.BytePtrFromString(dir + "/race-1")
	if err != nil {
		return "", err
	}
	path, err := unix.BytePtrFromString(dir + "/race-0")
	if err != nil {
		return "", err
	}
	// Each try the other thread waits a little longer: somewhere the descriptor is there and not yet looked at.
	var stop, open atomic.Bool
	replace := func(i int) {
		for !open.Load() && !stop.Load() {
			breathe()
		}
		for range i % 2000 {
			open.Load()
		}
		if how == "duplicate" {
			duplicateOver(uintptr(decoy), uintptr(next))
		} else if _, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(next), 0, 0); errno == 0 {
			// A new file of its own: it has one reference, like the one whose number it gets.
			_, _ = openRead(uintptr(unsafe.Pointer(other)))
		}
		open.Store(false)
	}
	spin(&stop, replace)
	said := racedOpens{TID: uint32(unix.Gettid())}
	for range raceTries() {
		open.Store(true)
		_, errno := openRead(uintptr(unsafe.Pointer(path)))
		for open.Load() {
			breathe()
		}
		for fd := next; fd < next+3; fd++ {
			_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
		}
		said.Inodes = append(said.Inodes, uint64(errno))
	}
	stop.Store(true)
	out, err := json.Marshal(said)
	return string(out), err
}

// TestKernelFileReplaced has a second thread replace the new descriptor before the program looks: where that
// happens in time, the event says what was asked for.
func TestKernelFileReplaced(t *testing.T) {
	requireKernel(t)
	w, tries := startRaceWatch(t)
	for _, how := range []string{"duplicate", "open"} {
		t.Run(how, func(t *testing.T) {
			dir, _ := raceFiles(t)
			helper := w.run(helperRun{action: "replace", args: []string{how, dir}})
			var said racedOpens
			if err := json.Unmarshal([]byte(helper.said), &said); err != nil {
				t.Fatal(err)
			}
			mine := func(r *Record) bool {
				open := openOf(r)
				return open != nil && r.Task.PID == helper.pid && r.Task.TID == said.TID &&
					(open.Path == dir+"/race-0" || open.Asked == dir+"/race-0")
			}
			found := w.await(tries, mine)
			replaced, marked := 0, 0
			for _, r := range found {
				open := openOf(r)
				if open.Path != dir+"/race-0" {
					replaced++
				}
				if open.Raced {
					marked++
				}
			}
			if len(found) != tries {
				t.Errorf("%d opens are told as what was asked for, want %d", len(found), tries)
			}
			if w.tracer.Plan() == PlanTrampoline && replaced+marked != 0 {
				t.Errorf("%d opens are told as another file's, %d are marked; the trampoline plan needs no mark", replaced, marked)
			}
			t.Logf("%d of %d were replaced in time, %d marked", replaced, len(found), marked)
		})
	}
}
