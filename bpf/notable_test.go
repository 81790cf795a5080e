// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// notableCase is a call that helperNotable makes, and what must be told of it.
type notableCase struct {
	number    uintptr
	arguments [6]uintptr
	// want is the name, "" when nothing is told; decoded the arguments that are told, claimed those of them that are
	// the caller's word.
	want    string
	abi     event.SyscallABI
	decoded []event.SyscallArgument
	// errno is the error, anyErrno for one that differs between kernels.
	errno event.Errno
	// powerless is whether it leaves, or finds, the caller without any capability.
	powerless bool
}

// anyErrno stands for any error, or none.
const anyErrno = -1

// x32 is the bit that makes a number one of x32.
const x32 = 0x40000000

// notableCases is calls that do no harm, most of them because they fail. keep holds the memory they point to.
func notableCases(keep map[string]any) []notableCase {
	str := func(s string) uintptr {
		b := append([]byte(s), 0)
		keep[s] = &b
		return uintptr(unsafe.Pointer(&b[0]))
	}
	words := &[8]uint64{0: 0x99 | 1<<32, 1: 0x77}
	keep["words"] = words
	attr := uintptr(unsafe.Pointer(words))
	const none, missing = ^uintptr(0), 0x7ffffffe
	plain := func(name, value string) event.SyscallArgument { return event.SyscallArgument{Name: name, Value: value} }
	claim := func(name, value string) event.SyscallArgument {
		return event.SyscallArgument{Name: name, Value: value, Claimed: true}
	}
	calls := []notableCase{
		{number: unix.SYS_UNSHARE, arguments: [6]uintptr{unix.CLONE_NEWUTS | unix.CLONE_FS}, want: "unshare", decoded: []event.SyscallArgument{plain("flags", "CLONE_NEWUTS|CLONE_FS")}},
		{number: unix.SYS_SETNS, arguments: [6]uintptr{none, unix.CLONE_NEWNET}, want: "setns", errno: event.Errno(unix.EBADF), decoded: []event.SyscallArgument{plain("fd", "-1"), plain("nstype", "CLONE_NEWNET")}},
		{
			number: unix.SYS_MOUNT, arguments: [6]uintptr{str("wg source\n"), str("/wg-missing"), str("tmpfs"), unix.MS_NOSUID | 1<<31}, want: "mount", errno: event.Errno(unix.ENOENT),
			decoded: []event.SyscallArgument{claim("source", "wg source\n"), claim("target", "/wg-missing"), claim("filesystemtype", "tmpfs"), plain("mountflags", "MS_NOSUID|0x80000000")},
		},
		{
			number: unix.SYS_MOUNT, arguments: [6]uintptr{0, 8, 0, 0}, want: "mount", errno: event.Errno(unix.EFAULT),
			decoded: []event.SyscallArgument{claim("target", ""), plain("mountflags", "0x0")},
		},
		{number: unix.SYS_UMOUNT2, arguments: [6]uintptr{str("/wg-missing"), unix.MNT_DETACH}, want: "umount2", errno: event.Errno(unix.ENOENT), decoded: []event.SyscallArgument{claim("target", "/wg-missing"), plain("flags", "MNT_DETACH")}},
		{number: unix.SYS_MEMFD_CREATE, arguments: [6]uintptr{str("wg-name"), unix.MFD_CLOEXEC}, want: "memfd_create", decoded: []event.SyscallArgument{claim("name", "wg-name"), plain("flags", "MFD_CLOEXEC")}},
		{number: unix.SYS_PTRACE, arguments: [6]uintptr{unix.PTRACE_ATTACH, missing}, want: "ptrace", errno: event.Errno(unix.ESRCH), decoded: []event.SyscallArgument{plain("request", "PTRACE_ATTACH"), plain("pid", strconv.Itoa(missing)), plain("addr", "0x0"), plain("data", "0x0")}},
		{number: unix.SYS_PTRACE, arguments: [6]uintptr{unix.PTRACE_PEEKTEXT, missing}},
		{number: unix.SYS_PROCESS_VM_WRITEV, arguments: [6]uintptr{missing, attr, 1, attr, 1}, want: "process_vm_writev", errno: anyErrno, decoded: []event.SyscallArgument{plain("pid", strconv.Itoa(missing))}},
		{number: unix.SYS_PRCTL, arguments: [6]uintptr{unix.PR_SET_DUMPABLE, 1}, want: "prctl", decoded: []event.SyscallArgument{plain("option", "PR_SET_DUMPABLE"), plain("arg2", "0x1"), plain("arg3", "0x0")}},
		{number: unix.SYS_PRCTL, arguments: [6]uintptr{unix.PR_GET_DUMPABLE}},
		{number: unix.SYS_BPF, arguments: [6]uintptr{unix.BPF_PROG_LOAD, attr, 8}, want: "bpf", errno: anyErrno, decoded: []event.SyscallArgument{plain("cmd", "BPF_PROG_LOAD"), claim("attr0", "0x99"), claim("attr1", "0x1"), plain("size", "8")}},
		{number: unix.SYS_IO_URING_SETUP, arguments: [6]uintptr{0, attr}, want: "io_uring_setup", errno: anyErrno, decoded: []event.SyscallArgument{plain("entries", "0"), claim("flags", "0x77")}},
		{number: unix.SYS_DELETE_MODULE, arguments: [6]uintptr{str("wg-module"), 0}, want: "delete_module", errno: anyErrno, decoded: []event.SyscallArgument{claim("name", "wg-module"), plain("flags", "0x0")}},
		{number: unix.SYS_CHROOT, arguments: [6]uintptr{str("/wg-missing")}, want: "chroot", errno: event.Errno(unix.ENOENT), decoded: []event.SyscallArgument{claim("path", "/wg-missing")}},
		{number: unix.SYS_PIVOT_ROOT, arguments: [6]uintptr{str("/wg-missing"), str("/wg-old")}, want: "pivot_root", errno: anyErrno, decoded: []event.SyscallArgument{claim("new_root", "/wg-missing"), claim("put_old", "/wg-old")}},
		{number: unix.SYS_SETRESUID, arguments: [6]uintptr{none, none, none}, want: "setresuid", decoded: []event.SyscallArgument{plain("ruid", "-1"), plain("euid", "-1"), plain("suid", "-1")}},
		{number: unix.SYS_CAPSET, want: "capset", errno: event.Errno(unix.EFAULT)},
		{number: unix.SYS_SECCOMP, arguments: [6]uintptr{99}, want: "seccomp", errno: event.Errno(unix.EINVAL), decoded: []event.SyscallArgument{plain("operation", "0x63"), plain("flags", "0x0")}},
		{number: unix.SYS_PERSONALITY, arguments: [6]uintptr{0xffffffff}, want: "personality", decoded: []event.SyscallArgument{plain("persona", "0xffffffff")}},
		{number: unix.SYS_USERFAULTFD, arguments: [6]uintptr{1 << 30}, want: "userfaultfd", errno: anyErrno, decoded: []event.SyscallArgument{plain("flags", "0x40000000")}},
		{number: unix.SYS_KILL, arguments: [6]uintptr{missing, 0}},
		{number: unix.SYS_TGKILL, arguments: [6]uintptr{missing, missing, 0}},
		{number: 5000},
	}
	if hasX32 {
		calls = append(calls,
			// x32: the numbers of 64-bit programs, and some of its own. Few kernels take them; what was asked for is told.
			notableCase{number: x32 | unix.SYS_SETNS, arguments: [6]uintptr{none, 0}, want: "setns", abi: event.ABIX32, errno: anyErrno, decoded: []event.SyscallArgument{plain("fd", "-1"), plain("nstype", "0x0")}},
			notableCase{number: x32 | 521, arguments: [6]uintptr{unix.PTRACE_ATTACH, missing}, want: "ptrace", abi: event.ABIX32, errno: anyErrno, decoded: []event.SyscallArgument{plain("request", "PTRACE_ATTACH"), plain("pid", strconv.Itoa(missing)), plain("addr", "0x0"), plain("data", "0x0")}},
			notableCase{number: 521, arguments: [6]uintptr{unix.PTRACE_ATTACH, missing}},
		)
	}
	// Of calls of one family some have programs of their own. The last ones: who makes them may do nothing more.
	const nobody, init = 65534, 1
	calls = append(calls, notableCase{
		powerless: true, number: unix.SYS_SETRESUID, arguments: [6]uintptr{nobody, nobody, nobody}, want: "setresuid",
		decoded: []event.SyscallArgument{plain("ruid", "65534"), plain("euid", "65534"), plain("suid", "65534")},
	}, notableCase{
		powerless: true, number: unix.SYS_TKILL, arguments: [6]uintptr{init, uintptr(unix.SIGURG)}, want: "tkill", errno: event.Errno(unix.EPERM),
		decoded: []event.SyscallArgument{plain("tid", "1"), plain("sig", "SIGURG")},
	}, notableCase{
		powerless: true, number: unix.SYS_TGKILL, arguments: [6]uintptr{init, init, uintptr(unix.SIGURG)}, want: "tgkill", errno: event.Errno(unix.EPERM),
		decoded: []event.SyscallArgument{plain("tgid", "1"), plain("tid", "1"), plain("sig", "SIGURG")},
	})
	return calls
}

// helperNotable makes the calls on one thread, which then ends with what they changed.
func helperNotable([]string) (string, error) {
	runtime.LockOSThread()
	keep := map[string]any{}
	for i, c := range notableCases(keep) {
		_, _, errno := unix.RawSyscall6(c.number, c.arguments[0], c.arguments[1], c.arguments[2], c.arguments[3], c.arguments[4], c.arguments[5])
		if c.want != "" && c.errno != anyErrno && event.Errno(errno) != c.errno {
			return "", fmt.Errorf("call %d, %s: %w, want %v", i, c.want, errno, c.errno)
		}
	}
	runtime.KeepAlive(keep)
	return "", nil
}

// notables is the notable calls of a process that were told so far.
func (w *watch) notables(pid uint32, n int) []*event.SyscallNotable {
	w.t.Helper()
	var calls []*event.SyscallNotable
	for _, r := range w.await(n, of[*event.SyscallNotable](int(pid))) {
		calls = append(calls, r.Payload.(*event.SyscallNotable))
	}
	return calls
}

func TestKernelNotable(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	outside := w.run(helperRun{action: "notable", outside: true})
	inside := w.run(helperRun{action: "notable"})
	var want []notableCase
	for _, c := range notableCases(map[string]any{}) {
		// No function does the work of calls of a convention that the kernel does not have.
		untold := c.abi == event.ABIX32 && noX32() != 0 && w.follows("notable", PlanTrampoline)
		if c.want != "" && !untold {
			want = append(want, c)
		}
	}
	got := w.notables(inside.pid, len(want))
	// A library of the test's asks the kernel what it can when it starts.
	for len(got) > 0 && got[0].Name == "bpf" {
		got = got[1:]
	}
	if len(got) != len(want) {
		t.Errorf("%d calls were told, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		c, w := got[i], want[i]
		if w.abi == "" {
			w.abi = event.NativeABI()
		}
		if c.Name != w.want || c.ABI != w.abi || c.Number != int(w.number&^x32) {
			t.Errorf("call %d is %s (%s %d), want %s (%s)", i, c.Name, c.ABI, c.Number, w.want, w.abi)
			continue
		}
		if w.errno != anyErrno && c.Error != w.errno || c.Error != 0 && c.Result != -int64(c.Error) {
			t.Errorf("%s: error %s, result %d; want %s", c.Name, c.Error.Name(), c.Result, w.errno.Name())
		}
		if diff := cmp.Diff(w.decoded, c.Arguments); diff != "" {
			t.Errorf("%s: arguments differ (-want +got):\n%s", c.Name, diff)
		}
		if c.Credentials == nil || (c.Credentials.Effective == 0) != w.powerless || (c.Namespaces != nil) != (c.Name == "unshare" || c.Name == "setns") {
			t.Errorf("%s: credentials %+v, namespaces %+v", c.Name, c.Credentials, c.Namespaces)
		}
	}
	if calls := w.notables(outside.pid, 0); len(calls) != 0 {
		t.Errorf("%d calls outside were told", len(calls))
	}
	if first := got[0]; first.Namespaces.UTS == 0 || first.Namespaces.UTS == namespaceInode(t, "uts") {
		t.Errorf("after unshare the UTS namespace is %d", first.Namespaces.UTS)
	}
}

// namespaceInode is the number of a namespace of the test.
func namespaceInode(t *testing.T, name string) uint32 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat("/proc/self/ns/"+name, &stat); err != nil {
		t.Fatal(err)
	}
	return uint32(stat.Ino)
}

// helperNotable32 becomes a 32-bit program that makes notable calls: those numbers are other calls' in 64-bit programs.
func helperNotable32([]string) (string, error) {
	var c code32
	for _, call := range notable32() {
		c.call(call.number, call.first, 0, 0)
	}
	c.exit()
	return "", run32(&c, append([]byte("/wg-missing"), 0))
}

type call32 struct {
	number, first uint32
	want          string
}

func TestKernelNotable32(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	said := w.run(helperRun{action: "notable 32"})
	var got []*event.SyscallNotable
	for _, c := range w.notables(said.pid, 4) {
		if c.ABI == event.CompatABI() {
			got = append(got, c)
		}
	}
	i := 0
	for _, c := range notable32() {
		if c.want == "" {
			continue
		}
		if i >= len(got) {
			t.Fatalf("%d calls of 32 bits were told: %+v", len(got), got)
		}
		if got[i].Name != c.want || got[i].Number != int(c.number) {
			t.Errorf("call %d is %+v, want %s", i, got[i], c.want)
		}
		i++
	}
	if i != len(got) {
		t.Errorf("%d calls of 32 bits were told, want %d", len(got), i)
	}
	if path := got[1].Argument("target"); path != "/wg-missing" {
		t.Errorf("the path is %q", path)
	}
}

func TestKernelNotableSignal(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	victim := exec.Command("/bin/sleep", "60")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer victim.Process.Kill()
	kill := func(attr *syscall.SysProcAttr) []*event.SyscallNotable {
		cmd := exec.Command("/bin/sh", "-c", "kill -WINCH $0 $$; :", strconv.Itoa(victim.Process.Pid))
		cmd.SysProcAttr = attr
		w.finish(cmd)
		one[*event.ProcessExit](w, cmd.Process.Pid)
		var kills []*event.SyscallNotable
		for _, c := range w.notables(uint32(cmd.Process.Pid), 1) {
			if c.Name == "kill" { // and not what Go makes of the child's user
				kills = append(kills, c)
			}
		}
		return kills
	}
	sent := kill(&syscall.SysProcAttr{})
	if len(sent) != 1 {
		t.Fatalf("told are %+v, want one: not the signal to itself", sent)
	}
	target := sent[0].Target
	if sent[0].Argument("sig") != "SIGWINCH" || target == nil || int(target.PID) != victim.Process.Pid || !target.Foreign || target.Name != "sleep" || target.Start == 0 {
		t.Errorf("the signal is %+v to %+v", sent[0], target)
	}
	denied := kill(&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}})
	if len(denied) != 1 || denied[0].Name != "kill" || denied[0].Error != event.Errno(unix.EPERM) || denied[0].Argument("pid") != strconv.Itoa(victim.Process.Pid) {
		t.Errorf("the refused signal is told as %+v", denied)
	}
	// Inside of one process group, and the kernel's own: nothing. To another group of the sandbox: told, and not foreign.
	cmd := exec.Command("/bin/sh", "-c", "sleep 60 & kill $!; wait $!; :")
	w.finish(cmd)
	one[*event.ProcessExit](w, cmd.Process.Pid)
	if calls := w.notables(uint32(cmd.Process.Pid), 0); len(calls) != 0 {
		t.Errorf("a signal within the process group was told: %+v", calls)
	}
	cmd = exec.Command("/bin/sh", "-c", "setsid sleep 60 & p=$!; sleep 0.3; kill $p; wait $p; :")
	if _, err := exec.LookPath("setsid"); errors.Is(err, exec.ErrNotFound) {
		t.Skip("no setsid here")
	}
	w.finish(cmd)
	one[*event.ProcessExit](w, cmd.Process.Pid)
	if calls := w.notables(uint32(cmd.Process.Pid), 1); len(calls) != 1 || calls[0].Target.Foreign {
		t.Errorf("a signal to another process group is told as %+v", calls)
	}
}

// TestNotableTable checks the one table: every call has a number in some convention, and fits the kernel side.
func TestNotableTable(t *testing.T) {
	table := newNotableTable()
	found := map[string]bool{}
	for abi := range table {
		for number, n := range table[abi] {
			if n == nil {
				continue
			}
			found[n.name] = true
			if _, err := n.spec(); err != nil {
				t.Error(err)
			}
			strings := 0
			for _, a := range n.arguments {
				if a.format == formatString {
					strings++
				}
			}
			if room := len(notableCall{}.Sizes); strings > room {
				t.Errorf("%s (%d) has %d strings, there is room for %d", n.name, number, strings, room)
			}
		}
	}
	for _, n := range notableCalls() {
		if !found[n.name] {
			t.Errorf("%s is no system call in any convention", n.name)
		}
	}
}
