// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// leavesDir is the cgroup of the leaves of `watchglass run`, below the cgroup that each run is in itself.
// So a command keeps the limits that it would have without Watchglass, and belongs to whatever sandbox
// the run is in.
const leavesDir = "watchglass"

// leafPrefix begins the names of leaves: what has another name was not made here and is left alone.
const leafPrefix = "run-"

// maxLeafProcesses bounds the list of what is alive in a leaf.
const maxLeafProcesses = 1 << 16

// Leaf is the cgroup of one session of `watchglass run`. Its maker holds a lock on the directory, so
// that whoever finds a leaf without a holder knows that its maker is gone, also from another PID namespace.
type Leaf struct {
	// ID is the kernel's id of the cgroup, Path its path as the kernel knows it.
	ID   uint64
	Path string

	dir   string
	mount Mount
	lock  *os.File
}

// NewLeaf makes the cgroup watchglass/run-NAME below that of this process. The caller must Remove it.
func NewLeaf(m Mount, name string) (*Leaf, error) {
	if name == "" || strings.ContainsAny(name, "/\x00\n") {
		return nil, fmt.Errorf("make a cgroup: %q cannot be a part of its name", name)
	}
	own, err := m.Own()
	if err != nil {
		return nil, err
	}
	parent := filepath.Join(own, leavesDir)
	dir := filepath.Join(parent, leafPrefix+name)
	// Another run may remove the directory of leaves, or the leaf before it is locked, as empty ones.
	for range 10 {
		if err := os.Mkdir(parent, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make the cgroup for sessions: %w", err)
		}
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("make the session's cgroup: %w", err)
		}
		lock, err := lockLeaf(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			_ = os.Remove(dir)
			return nil, err
		}
		return newLeaf(m, dir, lock)
	}
	return nil, fmt.Errorf("make the session's cgroup %s: it is removed again and again", dir)
}

func newLeaf(m Mount, dir string, lock *os.File) (*Leaf, error) {
	l := &Leaf{dir: dir, mount: m, lock: lock}
	var err error
	if l.Path, err = m.Path(dir); err == nil {
		l.ID, err = ID(dir)
	}
	if err != nil {
		_ = lock.Close()
		_ = os.Remove(dir)
		return nil, err
	}
	return l, nil
}

// lockLeaf takes the lock of a leaf that is there and nobody's.
func lockLeaf(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open the session's cgroup: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the session's cgroup: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "cgroup.procs")); err != nil { // removed before it was locked
		_ = f.Close()
		return nil, fmt.Errorf("lock the session's cgroup: %w", err)
	}
	return f, nil
}

// FD is a descriptor of the directory, for SysProcAttr.CgroupFD. It is closed on exec.
func (l *Leaf) FD() int { return int(l.lock.Fd()) }

// Dir is the leaf's directory.
func (l *Leaf) Dir() string { return l.dir }

// Populated says whether a process is alive in the leaf or below it.
func (l *Leaf) Populated() (bool, error) { return populated(l.dir) }

func populated(dir string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return false, fmt.Errorf("read the state of the session's cgroup: %w", err)
	}
	return strings.Contains(string(text), "populated 1"), nil
}

// Processes is the processes alive in the leaf and below it, by their ids in this process's PID
// namespace, in ascending order; 0 stands for those of others. Ended ones that nobody waited for are not listed.
func (l *Leaf) Processes() ([]int, error) {
	var pids []int
	for dir := range l.cgroups() {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the processes of the session's cgroup: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && len(pids) < maxLeafProcesses {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// cgroups is the leaf's directory and all below it, a parent before its children.
func (l *Leaf) cgroups() func(yield func(string) bool) { return cgroups(l.dir) }

func cgroups(top string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for waiting := []string{top}; len(waiting) > 0; {
			dir := waiting[len(waiting)-1]
			waiting = waiting[:len(waiting)-1]
			if !yield(dir) {
				return
			}
			entries, _ := os.ReadDir(dir) // gone meanwhile: nothing below it
			for _, e := range entries {
				if e.IsDir() {
					waiting = append(waiting, filepath.Join(dir, e.Name()))
				}
			}
		}
	}
}

// Kill ends every process in the leaf and below it with SIGKILL. It does not wait for them to be gone.
func (l *Leaf) Kill() error {
	err := os.WriteFile(filepath.Join(l.dir, "cgroup.kill"), []byte("1"), 0)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("kill the session's processes: %w", err)
	}
	// Kernels before 5.14 have no cgroup.kill: until a look finds nobody that can be killed. New
	// processes cannot outrun it for ever, each look kills their parents.
	const looks = 100
	for range looks {
		pids, err := l.Processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if pid > 0 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Wait waits until nobody is alive in the leaf, or ctx ends.
func (l *Leaf) Wait(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		alive, err := l.Populated()
		if err != nil || !alive {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the session's processes to end: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

// Release moves the processes of the leaf, and of all below it, to the cgroup of this process,
// where they would be had there been no leaf. It returns how many it moved.
func (l *Leaf) Release() (int, error) {
	home, err := l.mount.Own()
	if err != nil {
		return 0, err
	}
	moved := 0
	const looks = 10 // a process may fork while its siblings are moved
	for range looks {
		pids, err := l.Processes()
		if err != nil || len(pids) == 0 {
			return moved, err
		}
		for _, pid := range pids {
			err := os.WriteFile(filepath.Join(home, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return moved, fmt.Errorf("move process %d out of the session's cgroup: %w", pid, err)
			}
			moved++
		}
	}
	return moved, nil
}

// Own is the directory of the cgroup of this process.
func (m Mount) Own() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find the cgroup of this process: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			below, err := filepath.Rel(m.Root, path)
			if err != nil || below == ".." || strings.HasPrefix(below, "../") {
				return m.Dir, nil // this process is above what is mounted: the top is as near as it gets
			}
			return filepath.Join(m.Dir, below), nil
		}
	}
	return "", errors.New("find the cgroup of this process: it is in no cgroup2 hierarchy")
}

// Remove removes the leaf with all cgroups below it once nobody is alive in them, and gives up its
// lock in any case. A cgroup can refuse for a moment after its last process is gone.
func (l *Leaf) Remove(ctx context.Context) error {
	defer func() { _ = l.lock.Close() }()
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := removeTree(l.dir)
		if err == nil {
			// The directory of leaves goes with the last of them; it is not empty while others run.
			_ = os.Remove(filepath.Dir(l.dir))
			return nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// removeTree removes a cgroup and those below it, children first.
func removeTree(top string) error {
	dirs := slices.Collect(cgroups(top))
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the session's cgroup: %w", err)
		}
	}
	return nil
}

// RemoveStale removes the leaves whose maker is gone and in which nobody is alive: what a crash
// leaves behind. It returns their paths. One that cannot be removed is left to the next time.
func RemoveStale(m Mount) []string {
	var removed []string
	own, err := m.Own()
	if err != nil {
		return nil // making a leaf says why
	}
	parent := filepath.Join(own, leavesDir)
	entries, _ := os.ReadDir(parent) // none: nothing is stale
	for _, e := range entries {
		dir := filepath.Join(parent, e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), leafPrefix) {
			continue
		}
		lock, err := lockLeaf(dir)
		if err != nil {
			continue
		}
		if alive, err := populated(dir); err == nil && !alive && removeTree(dir) == nil {
			if path, err := m.Path(dir); err == nil {
				removed = append(removed, path)
			}
		}
		_ = lock.Close()
	}
	if len(removed) > 0 {
		_ = os.Remove(parent)
	}
	return removed
}
