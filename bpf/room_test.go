// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/watchglass/watchglass/event"
)

const (
	// roomExecs is how many programs helperRunAtOnce runs, roomWorkers how many of them at once, roomPadding how long an
	// argument of theirs is: all of them together find room in the ring.
	roomExecs, roomWorkers, roomPadding = 60, 4, 60 << 10
	// roomStandstills bounds how many of them may find the only room taken for longer than anybody waits: the processor in it
	// is a virtual one, of an emulated machine beside others, and stands still where its host has others to run.
	roomStandstills = 3
)

// roomArguments is the arguments of a program by its number: nobody else's.
func roomArguments(i int) []string {
	return []string{"true", strconv.Itoa(i), strings.Repeat(string(rune('a'+i%26)), roomPadding-i)}
}

// helperRunAtOnce runs programs with long arguments, some at once.
func helperRunAtOnce([]string) (string, error) {
	var workers sync.WaitGroup
	errs := make([]error, roomWorkers)
	for worker := range roomWorkers {
		workers.Go(func() {
			for i := worker; i < roomExecs; i += roomWorkers {
				errs[worker] = errors.Join(errs[worker], (&exec.Cmd{Path: "/bin/true", Args: roomArguments(i)}).Run())
			}
		})
	}
	workers.Wait()
	return "", errors.Join(errs...)
}

// roomWatch is a watch with so many rooms for execs.
type roomWatch struct {
	*watch
	doors *ebpf.Map
	rooms uint32
}

func startRoomWatch(t *testing.T, rooms int) *roomWatch {
	cfg := testConfig()
	cfg.execRooms = rooms
	w := &roomWatch{watch: startWatchWith(t, cfg), rooms: uint32(rooms)}
	for i := range w.tracer.probes {
		if p := &w.tracer.probes[i]; p.name == "process" {
			w.doors = p.collection.Maps["room_doors"]
		}
	}
	if got := w.doors.MaxEntries(); got != w.rooms {
		t.Fatalf("there are %d rooms, want %d", got, rooms)
	}
	return w
}

// take takes a room, or leaves it, in a program's place.
func (w *roomWatch) take(room uint32, taken bool) {
	w.t.Helper()
	door := processRoomDoor{}
	if taken {
		door.Taken = 1
	}
	if err := w.doors.Put(room, &door); err != nil {
		w.t.Fatal(err)
	}
}

// left fails where a program is in a room for good.
func (w *roomWatch) left() {
	w.t.Helper()
	for room := range w.rooms {
		var door processRoomDoor
		if err := w.doors.Lookup(room, &door); err != nil {
			w.t.Fatal(err)
		}
		if door.Taken != 0 {
			w.t.Errorf("room %d is taken, and nobody there", room)
		}
	}
}

// told is how many execs of a program were told, seen and dropped how many the kernel side knows of.
func (w *roomWatch) told(pid int) int {
	return len(w.await(1, of[*event.ProcessExec](pid)))
}

func (w *roomWatch) execs() (seen, dropped uint64) {
	w.t.Helper()
	counts, err := w.tracer.Counts()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range counts {
		if c.Sandbox == w.id && c.Kind == string(event.KindProcessExec) {
			seen, dropped = seen+c.Seen, dropped+c.Dropped
		}
	}
	return seen, dropped
}

// TestKernelExecRooms: fewer rooms than processors are enough. Who finds one taken takes another, or waits; and where nobody
// leaves one, what cannot be told is counted.
func TestKernelExecRooms(t *testing.T) {
	requireKernel(t)
	t.Run("one for all", func(t *testing.T) {
		w := startRoomWatch(t, 1)
		w.run(helperRun{action: "run at once"})
		isTrue := func(r *Record) bool {
			ran, ok := r.Payload.(*event.ProcessExec)
			return ok && len(ran.Args) == 3 && ran.Args[0] == "true"
		}
		found := map[string]bool{}
		all := func(told []*Record) bool {
			_, dropped := w.execs()
			return uint64(len(told))+dropped >= roomExecs
		}
		for _, r := range w.awaitUntil(isTrue, all) {
			args := r.Payload.(*event.ProcessExec).Args
			i, err := strconv.Atoi(args[1])
			if err != nil || args[2] != roomArguments(i)[2] || r.Truncated {
				t.Errorf("program %s has an argument of %d bytes that is not its own", args[1], len(args[2]))
			}
			found[args[1]] = true
		}
		seen, dropped := w.execs()
		if uint64(len(found))+dropped != roomExecs || seen != roomExecs+1 || dropped > roomStandstills {
			t.Errorf("%d programs told, %d execs seen and %d dropped; want %d told or dropped, at most %d of them dropped, and %d seen",
				len(found), seen, dropped, roomExecs, roomStandstills, roomExecs+1)
		}
		w.left()
	})
	t.Run("another is free", func(t *testing.T) {
		w := startRoomWatch(t, 2)
		for room := range w.rooms {
			w.take(room, true)
			for range 4 {
				cmd := exec.Command("/bin/true")
				w.finish(cmd)
				if n := w.told(cmd.Process.Pid); n != 1 {
					t.Errorf("while room %d is taken %d execs are told, want 1", room, n)
				}
			}
			w.take(room, false)
		}
		if _, dropped := w.execs(); dropped != 0 {
			t.Errorf("%d execs were dropped", dropped)
		}
		w.left()
	})
	t.Run("none is left", func(t *testing.T) {
		w := startRoomWatch(t, 2)
		w.take(0, true)
		w.take(1, true)
		cmd := exec.Command("/bin/true")
		w.finish(cmd)
		w.take(0, false)
		w.take(1, false)
		after := exec.Command("/bin/true")
		w.finish(after)
		if n := w.told(after.Process.Pid); n != 1 {
			t.Errorf("%d execs are told once there is room, want 1", n)
		}
		if seen, dropped := w.execs(); seen != 2 || dropped != 1 || len(w.seen(of[*event.ProcessExec](cmd.Process.Pid))) != 0 {
			t.Errorf("%d execs were seen and %d dropped, want 2 and the one that found no room", seen, dropped)
		}
		w.left()
	})
}
