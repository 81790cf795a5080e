// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

const (
	// maxProcFile bounds what is read of one file of a process, and mostFound what is listed of one kind.
	maxProcFile = 4 << 20
	mostFound   = 16
	// mostDevices bounds how many names in /dev are looked at.
	mostDevices = 4096
)

// Examine is what a process shows of the sandbox that it is in: all of it the kernel's word, read from /proc,
// compared with the machine's first process and this one. The process's own files are looked at without following links out of
// its root, and nothing is opened that could block or do anything. Assess has not been called yet.
func Examine(pid uint32) (*event.SandboxPosture, error) {
	p := &event.SandboxPosture{Network: "unknown"}
	status, err := readProc(pid, "status")
	if err != nil {
		return nil, fmt.Errorf("examine process %d: %w", pid, err)
	}
	readStatus(p, status)
	p.InitialUserNS = sameNamespace(pid, "user")
	for _, kind := range []string{"ipc", "mnt", "net", "pid", "uts"} {
		if sameNamespace(pid, kind) {
			p.HostNamespaces = append(p.HostNamespaces, kind)
		}
	}
	examineNetwork(p, pid)
	examineMounts(p, pid)
	if err := examineRoot(p, pid); err != nil {
		return nil, fmt.Errorf("examine process %d: %w", pid, err)
	}
	return p, nil
}

func readProc(pid uint32, name string) ([]byte, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(file, maxProcFile))
}

func readStatus(p *event.SandboxPosture, status []byte) {
	seccomp := []string{"disabled", "strict", "filter"}
	for line := range bytes.Lines(status) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), ":\t")
		if !ok {
			continue
		}
		switch name {
		case "Uid":
			if effective := strings.Fields(value); len(effective) > 1 {
				id, err := strconv.ParseUint(effective[1], 10, 32)
				if err == nil {
					p.UserID = uint32(id)
				}
			}
		case "CapEff":
			if set, err := strconv.ParseUint(value, 16, 64); err == nil {
				p.Capabilities = slices.Clone(event.Capabilities(set).Names())
			}
		case "NoNewPrivs":
			p.NoNewPrivs = value == "1"
		case "Seccomp":
			if n, err := strconv.Atoi(value); err == nil && n >= 0 && n < len(seccomp) {
				p.Seccomp = seccomp[n]
			}
		}
	}
}

// sameNamespace says whether a process is in the machine's own namespace of a kind, or in the collector's: one that
// runs in no container of its own is in what is the machine to it.
func sameNamespace(pid uint32, kind string) bool {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return false
	}
	for _, other := range []string{"1", "self"} {
		if first, err := os.Readlink("/proc/" + other + "/ns/" + kind); err == nil && own == first {
			return true
		}
	}
	return false
}

// examineNetwork tells whose network it is, and whether it leads to the metadata service.
func examineNetwork(p *event.SandboxPosture, pid uint32) {
	devices, err := readProc(pid, "net/dev")
	if err != nil {
		return
	}
	others := 0
	for line := range bytes.Lines(devices) {
		if name, _, ok := bytes.Cut(line, []byte(":")); ok && strings.TrimSpace(string(name)) != "lo" {
			others++
		}
	}
	switch {
	case slices.Contains(p.HostNamespaces, "net"):
		p.Network = "host"
	case others == 0:
		p.Network = "none"
	default:
		p.Network = "own"
	}
	if routes, err := readProc(pid, "net/route"); err == nil {
		p.MetadataRoute = routed(routes)
	}
}

// routed says whether a routing table (/proc/PID/net/route) leads to 169.254.169.254. Loopback does not count.
func routed(routes []byte) bool {
	const metadata, rejected = 0xfea9fea9, 0x0200 // the address as the kernel prints it: little-endian
	for line := range bytes.Lines(routes) {
		fields := strings.Fields(string(line))
		if len(fields) < 8 || fields[0] == "lo" {
			continue
		}
		destination, err1 := strconv.ParseUint(fields[1], 16, 32)
		flags, err2 := strconv.ParseUint(fields[3], 16, 32)
		mask, err3 := strconv.ParseUint(fields[7], 16, 32)
		if errors.Join(err1, err2, err3) == nil && metadata&mask == destination && flags&rejected == 0 {
			return true
		}
	}
	return false
}

// systemDirectories is what of the machine a sandbox has no business to write to. A project's directory somewhere
// below is what it is for.
func systemDirectories() []string {
	return []string{"/", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/root", "/home", "/var", "/boot", "/opt", "/srv", "/var/lib", "/var/run"}
}

// examineMounts lists the machine's directories that are mounted in another mount namespace and may be written.
func examineMounts(p *event.SandboxPosture, pid uint32) {
	if slices.Contains(p.HostNamespaces, "mnt") {
		return // told by that
	}
	mounts, err := readProc(pid, "mountinfo")
	if err != nil {
		return
	}
	lines := bufio.NewScanner(bytes.NewReader(mounts))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && len(p.WritableMounts) < mostFound {
		if point, ok := writableMount(lines.Text()); ok {
			p.WritableMounts = append(p.WritableMounts, point)
		}
	}
}

// writableMount is the mount point of a line of mountinfo that shows a system directory on a disk, writable.
func writableMount(line string) (string, bool) {
	mount, super, ok := strings.Cut(line, " - ")
	fields, source := strings.Fields(mount), strings.Fields(super)
	if !ok || len(fields) < 6 || len(source) < 2 || !strings.HasPrefix(source[1], "/dev/") {
		return "", false
	}
	options := strings.Split(fields[5], ",")
	return fields[4], slices.Contains(options, "rw") && slices.Contains(systemDirectories(), fields[3])
}

// examineRoot looks for sockets of container runtimes and for dangerous devices in the process's own root.
func examineRoot(p *event.SandboxPosture, pid uint32) error {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open its root: %w", err)
	}
	defer unix.Close(root) //nolint:errcheck // O_PATH
	for _, name := range []string{
		"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock",
		"/run/podman/podman.sock", "/var/run/cri-dockerd.sock", "/run/k3s/containerd/containerd.sock",
	} {
		if mode, ok := modeIn(root, name); ok && mode&unix.S_IFMT == unix.S_IFSOCK && len(p.Sockets) < mostFound {
			p.Sockets = append(p.Sockets, name)
		}
	}
	for _, name := range namesIn(root, "/dev") {
		path := filepath.Join("/dev", name)
		mode, ok := modeIn(root, path)
		dangerous := mode&unix.S_IFMT == unix.S_IFBLK || slices.Contains([]string{"mem", "kmem", "port"}, name)
		if ok && dangerous && len(p.Devices) < mostFound {
			p.Devices = append(p.Devices, path)
		}
	}
	return nil
}

// openIn opens a path inside of a root, as O_PATH unless flags say more, following links only inside of it.
func openIn(root int, path string, flags uint64) (int, error) {
	return unix.Openat2(root, path, &unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

func modeIn(root int, path string) (uint32, bool) {
	fd, err := openIn(root, path, unix.O_PATH)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd) //nolint:errcheck // O_PATH
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return st.Mode, err == nil
}

func namesIn(root int, dir string) []string {
	fd, err := openIn(root, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	if err != nil {
		return nil
	}
	file := os.NewFile(uintptr(fd), dir)
	defer file.Close() //nolint:errcheck // only read
	names, err := file.Readdirnames(mostDevices)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	return names
}

// CgroupOf is the cgroup that a process is in, as a sandbox without a name; nil when it cannot be told.
func CgroupOf(pid uint32, mount Mount) *event.Sandbox {
	text, err := readProc(pid, "cgroup")
	if err != nil {
		return nil
	}
	cgroup := unifiedPath(text)
	dir, ok := mount.dir(cgroup)
	if cgroup == "" || !ok {
		return nil
	}
	id, err := ID(dir)
	if err != nil {
		return nil
	}
	return &event.Sandbox{Cgroup: cgroup, CgroupID: id}
}
