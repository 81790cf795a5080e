// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// Where the program that threadBorn makes has what: its code, the arguments of clone3, a path, a flag, the end of a stack.
const (
	bornBase  = 0x400000
	bornArgs  = bornBase + 0x1000
	bornPath  = bornBase + 0x2000
	bornFlag  = bornBase + 0x3000
	bornStack = bornBase + 0x8000
)

// threadBorn makes a program of machine code, since no library makes threads so: its thread is born in the cgroup that
// descriptor 3 is of (CLONE_INTO_CGROUP), opens a file and ends; then so does the program, with clone3's error.
func threadBorn(t *testing.T, opens string) string {
	t.Helper()
	image := make([]byte, 0x3008)
	put := func(at int, values ...any) {
		var b bytes.Buffer
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v)
		}
		copy(image[at:], b.Bytes())
	}
	put(0, []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), uint16(2), uint16(62), uint32(1), uint64(bornBase+0x100),
		uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0))
	put(64, uint32(1), uint32(7), uint64(0), uint64(bornBase), uint64(bornBase), uint64(len(image)), uint64(bornStack-bornBase), uint64(0x1000))
	put(0x100, []byte{
		0xb8, 0xb3, 0x01, 0x00, 0x00, // mov eax, clone3
		0xbf, 0x00, 0x10, 0x40, 0x00, // mov edi, bornArgs
		0xbe, 0x58, 0x00, 0x00, 0x00, // mov esi, 88
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x74, 0x22, // jz thread
		0x78, 0x15, // js failed
		0xf3, 0x90, // wait: pause
		0x80, 0x3c, 0x25, 0x00, 0x30, 0x40, 0x00, 0x00, // cmp byte [bornFlag], 0
		0x74, 0xf4, // jz wait
		0x31, 0xff, // xor edi, edi
		0xb8, 0xe7, 0x00, 0x00, 0x00, // mov eax, exit_group
		0x0f, 0x05, // syscall
		0xf7, 0xd8, // failed: neg eax
		0x89, 0xc7, // mov edi, eax
		0xb8, 0xe7, 0x00, 0x00, 0x00, // mov eax, exit_group
		0x0f, 0x05, // syscall
		0xb8, 0x02, 0x00, 0x00, 0x00, // thread: mov eax, open
		0xbf, 0x00, 0x20, 0x40, 0x00, // mov edi, bornPath
		0x31, 0xf6, // xor esi, esi
		0x0f, 0x05, // syscall
		0xc6, 0x04, 0x25, 0x00, 0x30, 0x40, 0x00, 0x01, // mov byte [bornFlag], 1
		0x31, 0xff, // xor edi, edi
		0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, exit
		0x0f, 0x05, // syscall
	})
	const flags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_INTO_CGROUP
	const stack = 0x4000
	put(bornArgs-bornBase, uint64(flags), [4]uint64{}, uint64(bornStack-stack), uint64(stack), [3]uint64{}, uint64(3))
	put(bornPath-bornBase, append([]byte(opens), 0))
	program := filepath.Join(t.TempDir(), "thread-born")
	if err := os.WriteFile(program, image, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

// TestKernelThreadBorn has a thread be born in another cgroup than its process is in, into a sandbox and out of one: what
// it does is told either way.
func TestKernelThreadBorn(t *testing.T) {
	requireKernel(t)
	inside, outside := threadedCgroups(t)
	w := startWatch(t)
	id := cgroupID(t, inside)
	if err := w.tracer.Track(id); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, process, thread string }{
		{"into a sandbox", outside, inside},
		{"out of a sandbox", inside, outside},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(realPath(t, t.TempDir()), "opened")
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			cgroup, err := os.Open(test.thread)
			if err != nil {
				t.Fatal(err)
			}
			defer cgroup.Close()
			// A process is not born in a threaded cgroup but moved there.
			cmd := exec.Command("/bin/sh", "-c", "echo $$ > "+procsOf(test.process)+` && exec "$1"`, "sh", threadBorn(t, path))
			cmd.ExtraFiles = []*os.File{cgroup}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("the program says %v\n%s", err, out)
			}
			opens := w.await(1, func(r *Record) bool {
				open, ok := r.Payload.(*event.FileOpen)
				return ok && open.Path == path
			})
			if len(opens) != 1 || opens[0].Sandbox != id || opens[0].Cgroup != cgroupID(t, test.thread) || opens[0].Task.TID == opens[0].Task.PID {
				t.Fatalf("the thread's opens are %+v, want one of the sandbox", opens)
			}
			born := w.seen(func(r *Record) bool {
				move, ok := r.Payload.(*event.ProcessMove)
				return ok && r.Task.PID == opens[0].Task.PID && move.Born
			})
			if test.process == outside {
				if len(born) != 0 {
					t.Errorf("a thread that is born inside is told as %+v", born[0].Payload)
				}
				return
			}
			if len(born) != 1 {
				t.Fatalf("%d births outside are told, want 1", len(born))
			}
			if m := born[0].Payload.(*event.ProcessMove); !m.Thread || m.Direction != event.MoveOut || m.FromID != id || m.ToID != cgroupID(t, outside) {
				t.Errorf("the birth is told as %+v", m)
			}
		})
	}
	if n := strayCount(t, w.tracer); n != 0 {
		t.Errorf("%d strays are left, want none", n)
	}
}
