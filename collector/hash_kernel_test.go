// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/digest"
	"github.com/watchglass/watchglass/event"
)

// hashSession is a kernelSession whose programs are hashed, up to a bound.
type hashSession struct {
	*kernelSession
	t *testing.T
	// program is a command that takes a number of seconds, wherever it lies.
	program []byte
}

// mostHashed is more than a program that is executed here has, and less than a sparse one.
const mostHashed = 64 << 20

func startHashSession(t *testing.T) *hashSession {
	t.Helper()
	digester, err := digest.New(digest.Config{MaxBytes: mostHashed, Files: 64, Waiting: 64})
	if err != nil {
		t.Fatal(err)
	}
	s := &hashSession{t: t}
	s.kernelSession = startKernelSessionOn(t, bpf.DefaultConfig(), func(settings *Settings) { settings.Digest = digester })
	path, err := exec.LookPath("sleep")
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err == nil {
		s.program, err = os.ReadFile(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// write makes a program, with something behind it that makes it another one, which has not changed for long enough.
func (s *hashSession) write(path, tail string) (sum string) {
	s.t.Helper()
	text := slices.Concat(s.program, []byte(tail))
	if err := os.WriteFile(path, text, 0o700); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	of := sha256.Sum256(text)
	return hex.EncodeToString(of[:])
}

// start runs a program in the leaf for so many seconds.
func (s *hashSession) start(path, seconds string) *exec.Cmd {
	s.t.Helper()
	cmd := &exec.Cmd{Path: path, Args: []string{"sleep", seconds}}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: s.leaf.FD()}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// hash waits for what is told of the program of a process, in an event of its own or with its exec.
func (s *hashSession) hash(cmd *exec.Cmd) event.ProcessHash {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for _, e := range s.exporter.got() {
			if e.Process == nil || int(e.Process.PID) != cmd.Process.Pid {
				continue
			}
			switch p := e.Payload.(type) {
			case *event.ProcessHash:
				return *p
			case *event.ProcessExec:
				if p.SHA256 != "" {
					return event.ProcessHash{SHA256: p.SHA256}
				}
			}
		}
	}
	s.t.Fatalf("nothing is told of %s", cmd.Path)
	return event.ProcessHash{}
}

// want holds what is told of a process's program to a sum, certain or not.
func (s *hashSession) want(cmd *exec.Cmd, sum string, uncertain bool) {
	s.t.Helper()
	if got := s.hash(cmd); got.SHA256 != sum || got.Uncertain != uncertain || got.Missing != "" {
		s.t.Errorf("%s: told %+v, want %s, uncertain: %v", cmd.Path, got, sum, uncertain)
	}
}

// TestKernelHashes: what is told of a real exec is the sum of what was executed, whatever becomes of the file; or that it
// may be another; or why there is none.
func TestKernelHashes(t *testing.T) {
	s := startHashSession(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	first := s.write(path, "first")
	s.want(s.start(path, "60"), first, false)
	again := s.start(path, "0")
	s.want(again, first, false)
	if !slices.ContainsFunc(s.exporter.got(), func(e *event.Event) bool {
		p, ok := e.Payload.(*event.ProcessExec)
		return ok && int(e.Process.PID) == again.Process.Pid && p.SHA256 == first
	}) {
		t.Error("the second exec does not have the sum with it")
	}

	t.Run("deleted", func(t *testing.T) {
		deleted := filepath.Join(dir, "deleted")
		sum := s.write(deleted, "deleted")
		cmd := s.start(deleted, "60")
		if err := os.Remove(deleted); err != nil {
			t.Fatal(err)
		}
		if got := s.hash(cmd); got.SHA256 != sum || got.Missing != "" {
			t.Errorf("told %+v, want %s", got, sum)
		}
	})
	t.Run("another in its place", func(t *testing.T) {
		place, other := filepath.Join(dir, "place"), filepath.Join(dir, "other")
		sum := s.write(place, "executed")
		s.write(other, "put in its place")
		cmd := s.start(place, "60")
		if err := os.Rename(other, place); err != nil {
			t.Fatal(err)
		}
		if got := s.hash(cmd); got.SHA256 != sum || got.Missing != "" {
			t.Errorf("told %+v, want %s", got, sum)
		}
	})
	t.Run("another in its place, and it has ended", func(t *testing.T) {
		place, other := filepath.Join(dir, "ended"), filepath.Join(dir, "other")
		sum := s.write(place, "executed and ended")
		s.write(other, "put in the place of what has ended")
		cmd := s.start(place, "0")
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(other, place); err != nil {
			t.Fatal(err)
		}
		// It may have been read in time.
		if got := s.hash(cmd); got.SHA256 != sum && (got.SHA256 != "" || got.Missing != string(digest.ReasonGone)) {
			t.Errorf("told %+v, want %s, or that it is gone", got, sum)
		}
	})
	t.Run("in memory", func(t *testing.T) { s.inMemory(t) })
	t.Run("large", func(t *testing.T) {
		large := filepath.Join(dir, "large")
		s.write(large, "large")
		if err := os.Truncate(large, 1<<40); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if got := s.hash(s.start(large, "60")); got.SHA256 != "" || got.Missing != string(digest.ReasonTooLarge) {
			t.Errorf("told %+v", got)
		}
		t.Logf("took %v", time.Since(began))
	})
	t.Run("just written", func(t *testing.T) { s.justWritten(t, filepath.Join(dir, "new")) })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
}

// inMemory executes a file that no file system has.
func (s *hashSession) inMemory(t *testing.T) {
	t.Helper()
	fd, err := unix.MemfdCreate("innocent", 0)
	if err != nil {
		t.Fatal(err)
	}
	path := "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fd)
	sum := s.write(path, "in memory")
	// A file that is open for writing cannot be executed.
	read, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	s.want(s.start("/proc/"+strconv.Itoa(os.Getpid())+"/fd/"+strconv.Itoa(int(read.Fd())), "60"), sum, false)
}

// justWritten writes programs to one file and executes them at once: changes come faster than the clock of files goes. Each
// must be told right, or as uncertain.
func (s *hashSession) justWritten(t *testing.T, path string) {
	t.Helper()
	var uncertain int
	for i := range 20 {
		text := slices.Concat(s.program, []byte(strconv.Itoa(i%10)))
		if err := os.WriteFile(path, text, 0o700); err != nil {
			t.Fatal(err)
		}
		of := sha256.Sum256(text)
		cmd := s.start(path, "0")
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		// What follows at once is another program in the same file.
		if i%2 == 0 {
			continue
		}
		got := s.hash(cmd)
		if got.SHA256 != "" && got.SHA256 != hex.EncodeToString(of[:]) && !got.Uncertain {
			t.Errorf("the sum of another program is told as certain: %+v", got)
		}
		if got.Uncertain {
			uncertain++
		}
	}
	t.Logf("%d of 10 are uncertain", uncertain)
}

// TestKernelHashesOverlay: of an overlay, programs of the image's layer and of the written one are told by their own sums,
// also where the kernel has one number for both.
func TestKernelHashesOverlay(t *testing.T) {
	s := startHashSession(t)
	if list, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(list), "\toverlay\n") {
		t.Skip("this kernel has no overlay, or as a module that is not loaded")
	}
	dir := t.TempDir()
	at := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	mount := func(source, target, kind, options string) {
		t.Helper()
		if err := unix.Mount(source, target, kind, 0, options); err != nil {
			t.Fatalf("mounting %s: %v", kind, err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	for _, name := range []string{"one", "two", "up", "merged"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if name != "merged" {
			mount("tmpfs", at(name), "tmpfs", "")
		}
	}
	for _, name := range []string{"up/upper", "up/work", "one/bin", "two/lib"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	one, two := s.twins(at("one/bin/program"), at("two/lib/program"))
	mount("overlay", at("merged"), "overlay", "lowerdir="+at("one")+":"+at("two")+",upperdir="+at("up/upper")+",workdir="+at("up/work"))
	s.want(s.start(at("merged/bin/program"), "60"), one, false)
	s.want(s.start(at("merged/lib/program"), "60"), two, false)
	s.want(s.start(at("merged/bin/program"), "60"), one, false)
	// Writing to it copies it to the upper layer.
	file, err := os.OpenFile(at("merged/bin/copied"), os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	upper := s.write(at("merged/bin/copied"), "of the upper layer")
	s.want(s.start(at("merged/bin/copied"), "60"), upper, false)
	s.copyUp(at("merged/bin/program"))
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
}

// twins writes two programs that are of one number and of one time: file systems that are as new give their first files the
// same numbers, and the clock of files goes in steps.
func (s *hashSession) twins(a, b string) (sumA, sumB string) {
	s.t.Helper()
	var first, second unix.Stat_t
	texts := [2][]byte{slices.Concat(s.program, []byte("one")), slices.Concat(s.program, []byte("two"))}
	for range 1000 {
		for i, path := range []string{a, b} {
			if err := os.WriteFile(path, texts[i], 0o700); err != nil {
				s.t.Fatal(err)
			}
		}
		if err := errors.Join(unix.Stat(a, &first), unix.Stat(b, &second)); err != nil {
			s.t.Fatal(err)
		}
		if first.Ino != second.Ino {
			s.t.Fatalf("the files are %d and %d, not one number", first.Ino, second.Ino)
		}
		if first.Ctim == second.Ctim && first.Mtim == second.Mtim {
			break
		}
		// Files whose times were asked for have exact ones of later changes, on kernels from 6.13 on.
		if err := errors.Join(os.Remove(a), os.Remove(b)); err != nil {
			s.t.Fatal(err)
		}
	}
	if first.Ctim != second.Ctim {
		s.t.Log("the files are of two times")
	}
	time.Sleep(100 * time.Millisecond)
	one, two := sha256.Sum256(texts[0]), sha256.Sum256(texts[1])
	return hex.EncodeToString(one[:]), hex.EncodeToString(two[:])
}

// copyUp changes a program of a lower layer, so that it is copied to the upper one, while a process runs it.
func (s *hashSession) copyUp(path string) {
	s.t.Helper()
	next := filepath.Join(filepath.Dir(path), "next")
	sum := s.write(next, "copied up and changed")
	if err := os.Rename(next, path); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	s.want(s.start(path, "60"), sum, false)
}
