// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// sessionOf is the terminal session of the test.
func sessionOf(t *testing.T) uint32 {
	t.Helper()
	id, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(id)
}

// loginOf is the audit login id of the test, -1 when there is none.
func loginOf(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/loginuid")
	if errors.Is(err, os.ErrNotExist) {
		return -1
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return loginUser(uint32(id))
}

// tellPrivileges is a script that tells what the kernel says of the shell that runs it.
const tellPrivileges = `cat /proc/$$/status; for n in cgroup ipc mnt net pid time user uts; do readlink /proc/$$/ns/$n; done`

// helperConfine takes the right to gain rights away, puts a filter on its system calls and becomes a shell.
func helperConfine([]string) (string, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return "", fmt.Errorf("no_new_privs: %w", err)
	}
	allow := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	program := unix.SockFprog{Len: 1, Filter: &allow[0]}
	for range 2 {
		if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
			uintptr(unsafe.Pointer(&program))); errno != 0 {
			return "", fmt.Errorf("seccomp: %w", errno)
		}
	}
	err := unix.Exec("/bin/sh", []string{"sh", "-c", tellPrivileges}, []string{"PATH=/usr/bin:/bin"})
	return "", fmt.Errorf("exec: %w", err)
}

// privilegesOf reads what tellPrivileges wrote.
func privilegesOf(t *testing.T, said string) *event.Privileges {
	t.Helper()
	p := &event.Privileges{}
	c := &p.Credentials
	sets := map[string]*event.Capabilities{
		"CapEff:": &c.Effective, "CapPrm:": &c.Permitted, "CapInh:": &c.Inheritable, "CapBnd:": &c.Bounding, "CapAmb:": &c.Ambient,
	}
	number := func(s string, base int) uint64 {
		n, err := strconv.ParseUint(s, base, 64)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		return n
	}
	numbers := map[string]uint32{}
	for line := range strings.Lines(said) {
		if name, inode, found := strings.Cut(strings.TrimSpace(line), ":["); found {
			numbers[name] = uint32(number(strings.TrimSuffix(inode, "]"), 10))
			continue
		}
		fields := strings.Fields(line)
		switch {
		case len(fields) < 2:
		case sets[fields[0]] != nil:
			*sets[fields[0]] = event.Capabilities(number(fields[1], 16))
		case fields[0] == "NoNewPrivs:":
			p.NoNewPrivs = fields[1] == "1"
		case fields[0] == "Seccomp:":
			p.Seccomp = seccompMode(uint32(number(fields[1], 10)))
		case fields[0] == "Seccomp_filters:":
			p.SeccompFilters = int(number(fields[1], 10))
		}
	}
	n := &p.Namespaces
	n.Cgroup, n.IPC, n.Mount, n.Net = numbers["cgroup"], numbers["ipc"], numbers["mnt"], numbers["net"]
	n.PID, n.Time, n.User, n.UTS = numbers["pid"], numbers["time"], numbers["user"], numbers["uts"]
	c.UserNamespace = n.User
	return p
}

// tell runs a command that tells its privileges in the sandbox, and returns its last exec and what it said.
func (w *watch) tell(cmd *exec.Cmd) (*event.ProcessExec, *event.Privileges) {
	w.t.Helper()
	var said strings.Builder
	cmd.Stdout = &said
	w.start(cmd)
	if err := cmd.Wait(); err != nil {
		w.t.Fatalf("%v: %v", cmd.Args, err)
	}
	w.await(1, of[*event.ProcessExit](cmd.Process.Pid))
	execs := w.seen(of[*event.ProcessExec](cmd.Process.Pid))
	if len(execs) == 0 {
		w.t.Fatalf("no exec of %v was seen", cmd.Args)
	}
	ran, ok := execs[len(execs)-1].Payload.(*event.ProcessExec)
	if !ok || ran.Privileges == nil {
		w.t.Fatalf("exec is %+v", execs[len(execs)-1].Payload)
	}
	return ran, privilegesOf(w.t, said.String())
}

// TestKernelPrivileges holds what an exec says its program may do against what /proc says of it.
func TestKernelPrivileges(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	shell := func(attr *syscall.SysProcAttr) *exec.Cmd {
		cmd := exec.Command("/bin/sh", "-c", tellPrivileges)
		cmd.SysProcAttr = attr
		return cmd
	}
	confined := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
	confined.Env = append(os.Environ(), helperVariable+"=confine")
	self := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1234, Size: 1}}
	tests := []struct {
		name string
		cmd  *exec.Cmd
		uid  uint32
		// level is of the user namespace, own what is not the node's.
		level int
		own   []string
	}{
		{name: "as the test", cmd: shell(nil), uid: uint32(os.Geteuid())},
		{name: "as a user", cmd: shell(&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 4321}}), uid: 1234},
		{name: "an ambient capability", cmd: shell(&syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: 1234, Gid: 4321}, AmbientCaps: []uintptr{unix.CAP_NET_RAW},
		}), uid: 1234},
		{
			name: "in namespaces", own: []string{"ipc", "mnt", "net", "user", "uts"}, uid: 1234, level: 1,
			cmd: shell(&syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
				UidMappings: self, GidMappings: self, Credential: &syscall.Credential{NoSetGroups: true},
			}),
		},
		{name: "confined", cmd: confined, uid: uint32(os.Geteuid())},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ran, want := w.tell(test.cmd)
			got := *ran.Privileges
			c := &got.Credentials
			if c.UserID != test.uid || c.EffectiveUserID != test.uid || c.SavedUserID != test.uid || c.FSUserID != test.uid {
				t.Errorf("user ids of %+v, want %d", c, test.uid)
			}
			if c.UserNamespaceLevel != test.level {
				t.Errorf("user namespace of level %d, want %d", c.UserNamespaceLevel, test.level)
			}
			if test.own != nil && !slices.Equal(got.Namespaces.Own, test.own) && len(got.Namespaces.Unknown) == 0 {
				t.Errorf("namespaces of its own: %v, want %v", got.Namespaces.Own, test.own)
			}
			// /proc tells neither the level nor, in a user namespace, the ids outside of it.
			want.Credentials.UserNamespaceLevel = c.UserNamespaceLevel
			want.Credentials.UserID, want.Credentials.EffectiveUserID, want.Credentials.SavedUserID, want.Credentials.FSUserID = c.UserID, c.EffectiveUserID, c.SavedUserID, c.FSUserID
			want.Credentials.GroupID, want.Credentials.EffectiveGroupID, want.Credentials.SavedGroupID, want.Credentials.FSGroupID = c.GroupID, c.EffectiveGroupID, c.SavedGroupID, c.FSGroupID
			want.Namespaces.Own, want.Namespaces.Unknown = got.Namespaces.Own, got.Namespaces.Unknown
			if diff := cmp.Diff(want, &got); diff != "" {
				t.Errorf("differs from what /proc says (-want +got):\n%s", diff)
			}
			if confined := test.name == "confined"; confined && (!got.NoNewPrivs || got.Seccomp != event.SeccompFilter || got.SeccompFilters < 2) {
				t.Errorf("not seen as confined: %+v", got)
			}
		})
	}
}

// reachable makes the directories of the test open to any user.
func reachable(t *testing.T) string {
	t.Helper()
	dir := realPath(t, t.TempDir())
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestKernelProcessSetID(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	path := copyOf(t, "/bin/cat", filepath.Join(reachable(t), "cat"))
	if err := os.Chmod(path, 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	run := func(uid uint32) *event.ProcessExec {
		cmd := exec.Command(path, "/dev/null")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		w.finish(cmd)
		r, ran := one[*event.ProcessExec](w, cmd.Process.Pid)
		if r.Task.UserID != 0 || r.Task.GroupID != 0 {
			t.Errorf("acts as user %d, group %d; want the file's", r.Task.UserID, r.Task.GroupID)
		}
		return ran
	}
	gained := run(1234)
	c := gained.Privileges.Credentials
	if !gained.SetUser || !gained.SetGroup || !gained.SecureExec || c.UserID != 1234 || c.EffectiveUserID != 0 || c.SavedUserID != 0 || c.Effective == 0 {
		t.Errorf("run by a user it is %+v with %+v", gained, c)
	}
	if same := run(0); !same.SetUser || same.SecureExec {
		t.Errorf("run by its owner it is %+v", same)
	}
	plain := exec.Command("/bin/cat", "/dev/null")
	w.finish(plain)
	if _, ran := one[*event.ProcessExec](w, plain.Process.Pid); ran.SetUser || ran.SetGroup || ran.SecureExec {
		t.Errorf("a plain program is %+v", ran)
	}
}

// overlay mounts an overlay of two directories in memory and returns where.
func overlay(t *testing.T, lower func(dir string)) string {
	t.Helper()
	dir := realPath(t, t.TempDir())
	mount := func(source, target, fstype, data string) {
		err := unix.Mount(source, target, fstype, 0, data)
		if errors.Is(err, unix.ENODEV) {
			testenv.Unable(t, "this kernel has no "+fstype)
		}
		if err != nil {
			t.Fatalf("mounting %s: %v", fstype, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	mount("none", dir, "tmpfs", "size=64m")
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower(filepath.Join(dir, "lower"))
	merged := filepath.Join(dir, "merged")
	mount("none", merged, "overlay", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir))
	return merged
}

func TestKernelProcessOverlay(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir := overlay(t, func(dir string) {
		copyOf(t, "/bin/true", filepath.Join(dir, "image"))
		copyOf(t, "/bin/true", filepath.Join(dir, "touched"))
	})
	copyOf(t, "/bin/true", filepath.Join(dir, "made"))
	if err := os.Chtimes(filepath.Join(dir, "touched"), os.FileInfo.ModTime(mustStat(t, dir)), os.FileInfo.ModTime(mustStat(t, dir))); err != nil {
		t.Fatal(err)
	}
	for name, origin := range map[string]event.Origin{
		"image": event.OriginImage, "touched": event.OriginUpper, "made": event.OriginUpper,
	} {
		path := filepath.Join(dir, name)
		wantOrigin(t, w, &exec.Cmd{Path: path, Args: []string{"true"}}, origin, path)
	}
	if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for path, writable := range map[string]bool{filepath.Join(dir, "image"): false, filepath.Join(filepath.Dir(dir), "lower", "image"): true} {
		cmd := exec.Command(path)
		w.finish(cmd)
		if _, ran := one[*event.ProcessExec](w, cmd.Process.Pid); ran.WritableMount != writable {
			t.Errorf("%s: on a mount that can be written to is %v", path, ran.WritableMount)
		}
	}
}

func mustStat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestKernelProcessTerminal gives a process a terminal of its own.
func TestKernelProcessTerminal(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	defer slave.Close()
	cmd := exec.Command("/bin/true")
	cmd.Stdin = slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	w.start(cmd)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	_, ran := one[*event.ProcessExec](w, cmd.Process.Pid)
	if pid := uint32(cmd.Process.Pid); ran.TTY != "pts"+strconv.Itoa(n) && ran.TTY != "pts/"+strconv.Itoa(n) || ran.TerminalSession != pid || ran.ProcessGroup != pid {
		t.Errorf("terminal %q, session %d, group %d of process %d", ran.TTY, ran.TerminalSession, ran.ProcessGroup, pid)
	}
}
