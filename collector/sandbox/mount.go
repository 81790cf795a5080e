// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Why there is no mount to work with. Remedy has the sentence that helps.
var (
	ErrV1Only   = errors.New("only cgroup v1 is mounted: cgroup v1 only is unsupported")
	ErrNoCgroup = errors.New("no cgroup2 file system is mounted")
)

// MountInfo is where the kernel lists the mounts of this process; see proc_pid_mountinfo(5).
const MountInfo = "/proc/self/mountinfo"

// Mount is the cgroup2 file system as this process sees it.
type Mount struct {
	// Dir is where it is mounted.
	Dir string
	// Root is the cgroup that is mounted there: "/" but for bind mounts and cgroup namespaces.
	Root string
	// ReadOnly says that nothing can be made in it.
	ReadOnly bool
	// Hybrid says that cgroup v1 hierarchies are mounted besides it.
	Hybrid bool
}

// FindMount finds the mount in the list of this process's mounts.
func FindMount() (Mount, error) {
	f, err := os.Open(MountInfo)
	if err != nil {
		return Mount{}, fmt.Errorf("find the cgroup2 mount: %w", err)
	}
	defer func() { _ = f.Close() }()
	return ParseMount(f)
}

// ParseMount finds the cgroup2 mount in a list of mounts: the first of the whole hierarchy, else the
// first of a part of it. The error is ErrV1Only, ErrNoCgroup or that of reading.
func ParseMount(mountinfo io.Reader) (Mount, error) {
	var found Mount
	v1 := false
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, fsType := parseMountLine(lines.Text())
		switch fsType {
		case "cgroup":
			v1 = true
		case "cgroup2":
			if found.Dir == "" || found.Root != "/" && m.Root == "/" {
				found = m
			}
		}
	}
	if err := lines.Err(); err != nil {
		return Mount{}, fmt.Errorf("read the list of mounts: %w", err)
	}
	switch {
	case found.Dir != "":
		found.Hybrid = v1
		return found, nil
	case v1:
		return Mount{}, ErrV1Only
	default:
		return Mount{}, ErrNoCgroup
	}
}

// parseMountLine takes "id parent major:minor root dir options [tags…] - type source super-options" apart.
// The type is "" for a line that is none.
func parseMountLine(line string) (m Mount, fsType string) {
	own, super, ok := strings.Cut(line, " - ")
	fields, superFields := strings.Fields(own), strings.Fields(super)
	if !ok || len(fields) < 6 || len(superFields) < 1 {
		return Mount{}, ""
	}
	m.Root, m.Dir = unescape(fields[3]), unescape(fields[4])
	m.ReadOnly = hasOption(fields[5]) || len(superFields) > 2 && hasOption(superFields[2])
	return m, superFields[0]
}

func hasOption(options string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == "ro" {
			return true
		}
	}
	return false
}

// unescape undoes the kernel's \ooo for space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '7' {
			return false
		}
	}
	return s[0] <= '3'
}

// Remedy is what to do about an error of FindMount, "" when there is nothing to say.
func Remedy(err error) string {
	switch {
	case errors.Is(err, ErrV1Only):
		return "mount cgroup2 beside v1, for example: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified; " +
			"or boot with systemd.unified_cgroup_hierarchy=1"
	case errors.Is(err, ErrNoCgroup):
		return "mount it: mkdir -p /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup " +
			"(in a mount namespace of its own where others must not see it: unshare -m)"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "run as root with the cgroup2 file system writable; a container needs its own cgroup namespace and a read-write mount"
	default:
		return ""
	}
}

// Path is the path, as the kernel knows it, of a directory below the mount.
func (m Mount) Path(dir string) (string, error) {
	below, err := filepath.Rel(m.Dir, dir)
	if err != nil || below == ".." || strings.HasPrefix(below, "../") {
		return "", fmt.Errorf("%q is not below the cgroup2 mount %s", dir, m.Dir)
	}
	return filepath.Join("/", m.Root, below), nil
}

// ID is the kernel's id of the cgroup that has the directory: its inode number.
func ID(dir string) (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil {
		return 0, &os.PathError{Op: "stat cgroup", Path: dir, Err: err}
	}
	return st.Ino, nil
}
