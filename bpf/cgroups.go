// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// fileIDKernfs is the type of file handles of cgroup directories (FILEID_KERNFS of linux/exportfs.h).
const fileIDKernfs = 0xfe

// findCgroup2 returns where the top of the cgroup2 hierarchy is mounted. Where it is mounted more than
// once, a mount of the whole hierarchy goes before one of a part of it.
func findCgroup2() (string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("reading the mounts: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	best := ""
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		before, after, found := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !found || !strings.HasPrefix(after, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		root, dir := fields[3], unescapeMount(fields[4])
		if root == "/" {
			return dir, nil
		}
		if best == "" {
			best = dir
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("reading the mounts: %w", err)
	}
	if best == "" {
		return "", ErrNoCgroup2
	}
	return best, nil
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// cgroupDir finds the directory of a cgroup by its id: by file handle, else by looking at every one.
func cgroupDir(mount string, id uint64) (string, error) {
	if dir, err := cgroupDirByHandle(mount, id); err == nil {
		return dir, nil
	}
	return cgroupDirBySearch(mount, id)
}

func cgroupDirBySearch(mount string, id uint64) (string, error) {
	found := ""
	err := walkCgroups(mount, func(dir string, inode uint64) error {
		if inode == id {
			found = dir
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if found == "" {
		return "", fmt.Errorf("cgroup %d: %w", id, fs.ErrNotExist)
	}
	return found, nil
}

// cgroupDirByHandle needs CAP_DAC_READ_SEARCH, and Linux 5.5.
func cgroupDirByHandle(mount string, id uint64) (string, error) {
	top, err := os.Open(mount)
	if err != nil {
		return "", fmt.Errorf("opening the cgroup2 mount: %w", err)
	}
	defer top.Close() //nolint:errcheck // only read
	handle := unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(int(top.Fd()), handle, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("opening cgroup %d: %w", id, err)
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	dir, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", fmt.Errorf("asking for the path of cgroup %d: %w", id, err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil || stat.Ino != id {
		return "", fmt.Errorf("cgroup %d is not at %q: %w", id, dir, errors.Join(fs.ErrNotExist, err))
	}
	return dir, nil
}

// walkCgroups calls visit for dir and every cgroup below it, a parent always before its children are
// listed. Cgroups that go meanwhile are left out.
func walkCgroups(dir string, visit func(dir string, id uint64) error) error {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
				return nil
			}
			return err
		}
		if !entry.IsDir() {
			return nil
		}
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		return visit(path, stat.Ino)
	})
	if err != nil {
		return fmt.Errorf("listing cgroups below %q: %w", dir, err)
	}
	return nil
}
