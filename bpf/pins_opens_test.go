// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// making makes one file after another in a cgroup until it is stopped, each with its number as name.
type making struct {
	// stop is a file that ends it, slow one that says from which file on it pauses before each.
	dir, slow, stop string
	cmd             *exec.Cmd
}

// startMaking starts it, with a pause after every ten files, which two cores can follow; with -short a longer one, since in an
// emulated machine what is made takes the time of who takes over.
func startMaking(t *testing.T, cgroup string) *making {
	t.Helper()
	m, signs := &making{dir: t.TempDir()}, t.TempDir()
	pause := 5 * time.Millisecond
	if testing.Short() {
		pause = 50 * time.Millisecond
	}
	m.slow, m.stop = filepath.Join(signs, "slow"), filepath.Join(signs, "stop")
	m.cmd = exec.Command(os.Args[0], "-test.run=^TestHelperProcess$", "--", m.dir, m.slow, m.stop, pause.String())
	m.cmd.Env = append(os.Environ(), helperVariable+"=make files")
	startIn(t, cgroup, m.cmd)
	t.Cleanup(func() { _ = m.cmd.Process.Kill() })
	return m
}

// helperMakeFiles is what startMaking starts: the directory, the files that slow and end it, and the pause after ten files.
func helperMakeFiles(args []string) (string, error) {
	dir, slow, stop := args[0], args[1], args[2]
	pause, err := time.ParseDuration(args[3])
	if err != nil {
		return "", err
	}
	for i := 0; ; i++ {
		if _, err := os.Lstat(stop); err == nil {
			return "made", nil
		}
		if from, err := os.ReadFile(slow); err == nil {
			if from, err := strconv.Atoi(string(from)); err != nil {
				return "", err
			} else if i >= from {
				time.Sleep(slowed)
			}
		}
		fd, err := unix.Open(filepath.Join(dir, strconv.Itoa(i)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return "", err
		}
		if err := unix.Close(fd); err != nil {
			return "", err
		}
		if i%10 == 9 {
			time.Sleep(pause)
		}
	}
}

// reach waits until so many files are there.
func (m *making) reach(t *testing.T, n int) {
	t.Helper()
	last := filepath.Join(m.dir, strconv.Itoa(n))
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(last); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the file %s is not made", last)
		}
	}
}

// made is up to which file, of those from a number on, they are there.
func (m *making) made(from int) int {
	for ; ; from++ {
		if _, err := os.Stat(filepath.Join(m.dir, strconv.Itoa(from))); err != nil {
			return from
		}
	}
}

// slowFrom has it pause before each from that file on.
func (m *making) slowFrom(t *testing.T, n int) {
	t.Helper()
	next := m.slow + ".next"
	if err := errors.Join(os.WriteFile(next, []byte(strconv.Itoa(n)), 0o600), os.Rename(next, m.slow)); err != nil {
		t.Fatal(err)
	}
}

// count ends it and is how many files it made.
func (m *making) count(t *testing.T) int {
	t.Helper()
	if err := os.WriteFile(m.stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Wait(); err != nil {
		t.Error(err)
	}
	files, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// TestKernelPinsOpens has tracers take over from each other while files are made: what is seen at the end of system
// calls passes two programs, of two probes, of which one is exchanged before the other. Each file is told once.
func TestKernelPinsOpens(t *testing.T) {
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	cfg := pinned(dir)
	load := startMaking(t, cgroup)
	told := &execs{seen: map[string]int{}, of: func(record *Record) (string, bool) {
		open, ok := record.Payload.(*event.FileOpen)
		if !ok || open.Access&event.AccessCreate == 0 {
			return "", false
		}
		return strings.CutPrefix(open.Path, load.dir+"/")
	}}
	r := told.read(t, openPinned(t, cfg, event.PinningStarted))
	if err := r.Track(cgroupID(t, cgroup)); err != nil {
		t.Fatal(err)
	}
	first := load.made(0) + 1 // of those made before anybody watched the last may have been under way
	reached := first
	for _, next := range []struct {
		name   string
		change func(*Config)
		want   event.Pinning
	}{
		{"the same", nil, event.PinningAdopted},
		{"the same again", nil, event.PinningAdopted},
		{"other constants", func(c *Config) { c.KeptBudget *= 2 }, event.PinningUpdated},
		{"another ring", func(c *Config) { c.RingBytes *= 2 }, event.PinningReplaced},
		{"the same in the end", nil, event.PinningAdopted},
	} {
		load.reach(t, reached+200)
		reached = load.made(reached)
		load.slowFrom(t, reached+16*unreadAtMost)
		r.kill(t)
		load.reach(t, reached+50) // while nobody reads
		if next.change != nil {
			next.change(&cfg)
		}
		t.Log(next.name)
		r = told.read(t, openPinned(t, cfg, next.want))
		load.slowFrom(t, math.MaxInt)
		reached = load.made(reached)
	}
	load.reach(t, reached+200)
	made := load.count(t)
	r.kill(t)
	missing, twice := []int{}, []int{}
	for i := first; i < made; i++ {
		switch told.seen[fmt.Sprint(i)] {
		case 0:
			missing = append(missing, i)
		case 1:
		default:
			twice = append(twice, i)
		}
	}
	if len(missing) > 0 || len(twice) > 0 {
		t.Errorf("of the files %d to %d %d are not told, %v first, and %d are told twice, %v first", first, made-1,
			len(missing), missing[:min(8, len(missing))], len(twice), twice[:min(8, len(twice))])
	}
}
