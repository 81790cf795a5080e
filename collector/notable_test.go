// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"strconv"
	"testing"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// TestTargets shows whom ptrace and its like take hold of: the number is the caller's, in its own PID namespace.
func TestTargets(t *testing.T) {
	var got []*event.SyscallNotable
	watcher := &fakeDetector{
		rule: event.Rule{ID: "x", UUID: "x", Severity: event.SeverityInfo, Kinds: []event.Kind{event.KindSyscallNotable}},
		find: func(e *event.Event) *event.Finding {
			if n, ok := e.Payload.(*event.SyscallNotable); ok {
				got = append(got, n)
			}
			return nil
		},
	}
	p := newTestPipeline(t, Settings{Detectors: []Detector{watcher}, Sandboxes: &fakeSandboxes{}, Source: newFakeSource()})
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	p.handle(&bpf.Record{Time: now, Sandbox: 10, Payload: &bpf.CgroupMade{ID: 10, Path: "/s1"}})
	p.handle(&bpf.Record{Time: now, Sandbox: 11, Payload: &bpf.CgroupMade{ID: 11, Path: "/s2"}})
	task := func(pid, vpid uint32) bpf.Task {
		return bpf.Task{PID: pid, TID: pid, VPID: vpid, ParentPID: 1, Start: uint64(pid) * 1e6, StartTime: now, Comm: "p" + strconv.Itoa(int(pid))}
	}
	add := func(sandbox uint64, pid, vpid uint32) {
		p.handle(&bpf.Record{Time: now, Sandbox: sandbox, Cgroup: sandbox, Task: task(pid, vpid), Payload: &event.ProcessExec{
			Executable: "/bin/p" + strconv.Itoa(int(pid)), Args: []string{"p"}, Origin: event.OriginFile,
		}})
	}
	add(10, 100, 100)
	add(10, 101, 101)
	add(10, 200, 2)
	add(10, 201, 3)
	add(11, 300, 300)
	add(11, 301, 3)
	p.handle(&bpf.Record{Time: now, Sandbox: 10, Cgroup: 10, Task: task(102, 102), Payload: &event.ProcessExit{Exited: now}})
	for _, c := range []struct {
		name      string
		pid, vpid uint32
		call      string
		number    string
		claimed   bool
		errno     event.Errno
		want      uint32
		foreign   bool
	}{
		{name: "a neighbour", pid: 100, vpid: 100, call: "ptrace", number: "101", want: 101},
		{name: "in a namespace of its own", pid: 200, vpid: 2, call: "process_vm_writev", number: "3", want: 201},
		{name: "nobody of that number there", pid: 200, vpid: 2, call: "ptrace", number: "300"},
		{name: "of another sandbox", pid: 100, vpid: 100, call: "ptrace", number: "300", want: 300, foreign: true},
		{name: "of none", pid: 100, vpid: 100, call: "ptrace", number: "4000", want: 4000, foreign: true},
		{name: "gone", pid: 100, vpid: 100, call: "ptrace", number: "102", want: 102, foreign: true},
		{name: "a failure", pid: 100, vpid: 100, call: "ptrace", number: "101", errno: 1},
		{name: "to be traced itself", pid: 100, vpid: 100, call: "ptrace", number: "0"},
		{name: "the caller's word", pid: 100, vpid: 100, call: "ptrace", number: "101", claimed: true},
		{name: "no number", pid: 100, vpid: 100, call: "ptrace", number: "-1"},
		{name: "another call", pid: 100, vpid: 100, call: "setpgid", number: "101"},
	} {
		got = nil
		p.handle(&bpf.Record{Time: now, Sandbox: 10, Cgroup: 10, Task: task(c.pid, c.vpid), Payload: &event.SyscallNotable{
			Name: c.call, Error: c.errno, Arguments: []event.SyscallArgument{{Name: "pid", Value: c.number, Claimed: c.claimed}},
		}})
		if len(got) != 1 {
			t.Fatalf("%s: %d calls", c.name, len(got))
		}
		switch target := got[0].Target; {
		case target == nil && c.want == 0:
		case target == nil:
			t.Errorf("%s: no target", c.name)
		case target.PID != c.want || target.Foreign != c.foreign:
			t.Errorf("%s: it is %+v", c.name, target)
		}
	}
}
