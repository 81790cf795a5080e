// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// memoryCase makes memory executable in one way.
type memoryCase struct {
	name string
	do   func(dir string) error
	// want is the call and what the memory is, "" when nothing is told.
	want string
}

func memoryCases() []memoryCase {
	const rw, rx, rwx = unix.PROT_READ | unix.PROT_WRITE, unix.PROT_READ | unix.PROT_EXEC, unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	anonymous := func(first, then int) func(string) error {
		return func(string) error {
			memory, err := unix.Mmap(-1, 0, 4096, first, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil || then == 0 {
				return err
			}
			if first&unix.PROT_WRITE != 0 {
				memory[0] = 0xc3
			}
			return unix.Mprotect(memory, then)
		}
	}
	file := func(write bool) func(string) error {
		return func(dir string) error {
			fd, err := opened(filepath.Join(dir, "code"))
			if err != nil {
				return err
			}
			if err := unix.Ftruncate(fd, 4096); err != nil {
				return err
			}
			memory, err := unix.Mmap(fd, 0, 4096, rw, unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			if write {
				memory[0] = 0xc3
			}
			return unix.Mprotect(memory, rx)
		}
	}
	return []memoryCase{
		{"data", anonymous(rw, unix.PROT_READ), ""},
		{"anonymous written, then executable", anonymous(rw, rx), "mprotect PROT_READ|PROT_EXEC anonymous"},
		{"anonymous all at once", anonymous(rwx, 0), "mmap PROT_READ|PROT_WRITE|PROT_EXEC anonymous writable"},
		{"anonymous executable from the start", anonymous(rx, 0), "mmap PROT_READ|PROT_EXEC anonymous"},
		{"file as it is", file(false), ""},
		{"file written, then executable", file(true), "mprotect PROT_READ|PROT_EXEC file changed"},
		{"many", func(dir string) error {
			for range 100 {
				if err := anonymous(rw, rx)(dir); err != nil {
					return err
				}
			}
			return nil
		}, "mprotect PROT_READ|PROT_EXEC anonymous"},
		{"refused", func(string) error {
			_, _, errno := unix.Syscall(unix.SYS_MPROTECT, 4096, 4096, rx)
			if errno == 0 {
				return errors.New("memory at the bottom is there")
			}
			return nil
		}, ""},
	}
}

// helperMemory does one case.
func helperMemory(args []string) (string, error) {
	for _, c := range memoryCases() {
		if c.name == args[0] {
			return "", c.do(args[1])
		}
	}
	return "", errors.New("no case " + args[0])
}

func isUnknown(told string) bool { return strings.HasSuffix(told, " unknown") }

// becameExecutable is what was told of memory of a process that became executable. Nothing comes after the process's end: there
// is nothing to wait for where nothing is to be told.
func (w *watch) becameExecutable(pid uint32) (told []string) {
	w.t.Helper()
	w.await(1, of[*event.ProcessExit](int(pid)))
	for _, n := range w.notables(pid, 0) {
		if n.Name == "mmap" || n.Name == "mprotect" {
			told = append(told, n.Name+" "+n.Argument("prot")+" "+n.Argument("memory"))
		}
	}
	return told
}

// TestKernelExecutableMemory: memory that is no unchanged file and becomes executable is told, once a process.
func TestKernelExecutableMemory(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for _, c := range memoryCases() {
		t.Run(c.name, func(t *testing.T) {
			var got, want []string
			// Where another thread changes mappings at that moment, as the runtime's do, it is told that nobody could look.
			for try := 0; try == 0 || try < 5 && slices.ContainsFunc(got, isUnknown); try++ {
				got = w.becameExecutable(w.run(helperRun{action: "memory", args: []string{c.name, t.TempDir()}}).pid)
			}
			if c.want != "" {
				want = []string{c.want}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("outside", func(t *testing.T) {
		helper := w.run(helperRun{action: "memory", args: []string{"anonymous all at once", t.TempDir()}, outside: true})
		if got := w.notables(helper.pid, 0); len(got) != 0 {
			t.Errorf("%d calls of a process outside of the sandbox are told", len(got))
		}
	})
	t.Run("32-bit", func(t *testing.T) {
		helper := w.run(helperRun{action: "memory 32"})
		var got []string
		for _, n := range w.notables(helper.pid, 1) {
			if n.Name == "mmap" || n.Name == "mmap2" {
				got = append(got, string(n.ABI)+" "+n.Argument("memory"))
			}
		}
		if diff := cmp.Diff([]string{string(event.CompatABI()) + " anonymous writable"}, got); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// helperMemory32 becomes a 32-bit program that maps executable memory, by the oldest call that there is for it.
func helperMemory32([]string) (string, error) {
	return "", run32(mapOld32([]uint32{
		0, 4096, unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, 1<<32 - 1, 0,
	}))
}
