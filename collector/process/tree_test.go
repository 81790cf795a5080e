// SPDX-License-Identifier: Apache-2.0

package process

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

const sandbox = 7

// world makes records as a kernel would: start times and clock move on with every record.
type world struct {
	tree *Tree
	now  time.Time
}

func newWorld(most int) *world {
	return &world{
		tree: New(Config{BootID: "boot-1", Max: most, Grace: 10 * time.Second}),
		now:  time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
	}
}

// task is a process: its start time is made from its pid unless it is given.
type task struct{ pid, parent, start uint32 }

func (w *world) record(t task, payload any) *bpf.Record {
	w.now = w.now.Add(time.Millisecond)
	started := func(pid, start uint32) uint64 {
		if start == 0 {
			start = pid
		}
		return 1_000_000 * uint64(start)
	}
	return &bpf.Record{
		Time: w.now, Sandbox: sandbox, Cgroup: sandbox, Payload: payload,
		Task: bpf.Task{
			PID: t.pid, TID: t.pid, VPID: t.pid, ParentPID: t.parent, Start: started(t.pid, t.start),
			ParentStart: started(t.parent, 0), StartTime: w.now, Comm: "comm",
		},
	}
}

func (w *world) fork(t task) *event.Process { return w.tree.Fork(w.record(t, &bpf.Fork{})) }

func (w *world) exec(t task, command string, env ...event.EnvVar) *event.Process {
	args := strings.Fields(command)
	exec := &event.ProcessExec{Executable: args[0], Filename: args[0], Args: args, ArgsCount: len(args), Env: env}
	return w.tree.Exec(w.record(t, exec), exec)
}

func (w *world) exit(t task) *event.Process {
	return w.tree.Exit(w.record(t, &event.ProcessExit{}))
}

func (w *world) seen(t task) *event.Process { return w.tree.Seen(w.record(t, &event.FileOpen{})) }

func chainLength(p *event.Process) int {
	n := 0
	for q := p.Parent; q != nil; q = q.Parent {
		n++
	}
	return n
}

func TestIdentity(t *testing.T) {
	tree := New(Config{BootID: "boot-1", Max: 10})
	id := tree.Identity(100, 5_000_000)
	if id == 0 || id != New(Config{BootID: "boot-1", Max: 10}).Identity(100, 5_000_000) {
		t.Errorf("%s is not the same when the collector starts again", id)
	}
	if id.String() != "30b36ed2c3460126" {
		t.Errorf("identity %s: another formula makes every stored identity wrong", id)
	}
	for name, other := range map[string]event.ProcessID{
		"another pid": tree.Identity(101, 5_000_000), "another start": tree.Identity(100, 5_000_001),
		"another boot": New(Config{BootID: "boot-2", Max: 10}).Identity(100, 5_000_000),
	} {
		if other == id {
			t.Errorf("%s has the same identity", name)
		}
	}
	if tree.Identity(100, 0) != 0 {
		t.Error("a process without a start time has an identity")
	}
}

func TestLife(t *testing.T) {
	w := newWorld(100)
	shell := w.exec(task{pid: 10, parent: 1}, "/bin/bash bash")
	child := w.fork(task{pid: 11, parent: 10})
	if child.Parent != shell || child.ParentUID != shell.UID || child.Name != "bash" || child.Executable != "/bin/bash" {
		t.Errorf("a forked process runs its parent's program: %+v", child)
	}
	ls := w.exec(task{pid: 11, parent: 10}, "/bin/ls -l")
	if ls.UID != child.UID || ls == child || child.Name != "bash" {
		t.Errorf("an exec must make a new value with the same identity: %+v, was %+v", ls, child)
	}
	if got := w.seen(task{pid: 11, parent: 10}); got != ls {
		t.Errorf("the process of a later record is %+v", got)
	}
	if diff := cmp.Diff([]string{"/bin/ls", "-l"}, ls.Args); diff != "" {
		t.Error(diff)
	}
	if got := w.exit(task{pid: 11, parent: 10}); got != ls {
		t.Errorf("the process of its exit is %+v", got)
	}
	if alive := w.tree.Live(sandbox); len(alive) != 1 || alive[0] != shell {
		t.Errorf("alive: %v", alive)
	}
	// A record that comes late.
	if got := w.seen(task{pid: 11, parent: 10}); got != ls {
		t.Errorf("the process of a late record is %+v", got)
	}
	// However long ago that was when it was read.
	read := w.now.Add(time.Hour)
	w.tree.Expire(read)
	w.tree.Expire(read.Add(9 * time.Second))
	if w.tree.Len() != 2 {
		t.Error("forgotten before the grace period was over")
	}
	w.tree.Expire(read.Add(10 * time.Second))
	if w.tree.Len() != 1 || w.tree.Evicted() != 0 {
		t.Errorf("%d held, %d evicted", w.tree.Len(), w.tree.Evicted())
	}
}

func TestAncestryOfAnExec(t *testing.T) {
	w := newWorld(100)
	w.exec(task{pid: 10, parent: 1}, "/usr/bin/make make")
	w.fork(task{pid: 11, parent: 10})
	w.exec(task{pid: 11, parent: 10}, "/bin/sh sh")
	r := w.record(task{pid: 12, parent: 11}, nil)
	exec := &event.ProcessExec{Executable: "/usr/bin/cc", Args: []string{"cc"}}
	w.tree.Exec(r, exec)
	if diff := cmp.Diff([]string{"sh", "make"}, exec.Ancestry); diff != "" {
		t.Error(diff)
	}
}

func TestPidsAreReused(t *testing.T) {
	w := newWorld(100)
	first := w.exec(task{pid: 10, parent: 1, start: 10}, "/bin/first first")
	w.exit(task{pid: 10, parent: 1, start: 10})
	second := w.fork(task{pid: 10, parent: 1, start: 99})
	if first.UID == second.UID || second.Name == "first" {
		t.Errorf("%+v was taken for %+v", second, first)
	}
	if late := w.seen(task{pid: 10, parent: 1, start: 10}); late != first {
		t.Errorf("a late record of the first went to %+v", late)
	}
}

func TestLocate(t *testing.T) {
	w := newWorld(100)
	first := w.fork(task{pid: 10, parent: 1, start: 1234})
	w.exit(task{pid: 10, parent: 1, start: 1234})
	second := w.fork(task{pid: 10, parent: 1, start: 5678})
	for _, test := range []struct {
		start uint64
		want  *event.Process
	}{
		{1_234_000_000, first},
		{5_678_000_000, second},
		{5_670_000_000, second}, // as /proc has it
		{5_680_000_000, nil},    // a tick later: another process
		{1_230_000_000, nil},    // by its pid only the latest is found
		{0, nil},
	} {
		if got := w.tree.Locate(agent.Origin{PID: 10, Start: test.start}); got != test.want {
			t.Errorf("start %d: %v, want %v", test.start, got, test.want)
		}
	}
	if got := w.tree.Locate(agent.Origin{}); got != nil {
		t.Errorf("nobody is %v", got)
	}
	w.tree.Forget(sandbox)
	if got := w.tree.Locate(agent.Origin{PID: 10, Start: 5_670_000_000}); got != nil {
		t.Errorf("a forgotten one is %v", got)
	}
}

func TestNeverSeen(t *testing.T) {
	w := newWorld(100)
	parent := w.exec(task{pid: 10, parent: 1}, "/bin/bash bash")
	// The records of its fork and exec were lost.
	p := w.seen(task{pid: 12, parent: 10})
	if p.PID != 12 || p.Parent != parent || p.Name != "bash" || p.RootUID != parent.UID {
		t.Errorf("%+v", p)
	}
	// And those of its parent too.
	p = w.seen(task{pid: 14, parent: 13})
	if p.Name != "comm" || p.Parent != nil || p.ParentUID == 0 || p.RootUID != p.UID {
		t.Errorf("%+v", p)
	}
	// Its exit is all that is known of it.
	if p = w.exit(task{pid: 15, parent: 13}); p.PID != 15 {
		t.Errorf("%+v", p)
	}
}

func TestExisting(t *testing.T) {
	w := newWorld(100)
	w.tree.Existing(w.record(task{pid: 10, parent: 1}, nil), &bpf.Existing{Executable: "/usr/bin/codex", Args: []string{"codex"}})
	child := w.tree.Existing(w.record(task{pid: 11, parent: 10}, nil), &bpf.Existing{Executable: "/bin/sh"})
	if child.Agent == nil || child.Agent.Name != "codex" || child.RootUID != child.UID || child.Parent == nil {
		t.Errorf("%+v", child)
	}
	kernel := w.tree.Existing(w.record(task{pid: 12, parent: 1}, nil), &bpf.Existing{})
	if kernel.Name != "comm" || kernel.Executable != "" {
		t.Errorf("%+v", kernel)
	}
}

func TestAnotherSandboxIsNoParent(t *testing.T) {
	w := newWorld(100)
	w.exec(task{pid: 10, parent: 1}, "/usr/bin/codex codex")
	r := w.record(task{pid: 11, parent: 10}, &bpf.Fork{})
	r.Sandbox = sandbox + 1
	if p := w.tree.Fork(r); p.Parent != nil || p.Agent != nil || p.ParentUID == 0 {
		t.Errorf("%+v", p)
	}
}

// TestRoots holds the root of a process to the agent's direct child, or the sandbox's.
func TestRoots(t *testing.T) {
	w := newWorld(100)
	launcher := w.exec(task{pid: 10, parent: 1}, "/bin/sh sh run.sh")
	agent := w.exec(task{pid: 11, parent: 10}, "/usr/bin/codex codex")
	call := w.exec(task{pid: 12, parent: 11}, "/bin/bash bash", event.EnvVar{Name: "CODEX_TOOL_CALL_ID", Value: "c1"})
	leaf := w.exec(task{pid: 13, parent: 12}, "/bin/ls ls")
	helper := w.exec(task{pid: 14, parent: 11}, "/usr/bin/git git")
	for name, c := range map[string]struct{ p, root *event.Process }{
		"launcher": {launcher, launcher}, "agent": {agent, launcher}, "call": {call, call}, "leaf": {leaf, call}, "helper": {helper, helper},
	} {
		if c.p.RootUID != c.root.UID {
			t.Errorf("the root of the %s is %s, not %s", name, c.p.RootUID, c.root.UID)
		}
	}
	if leaf.Agent.CallID != "c1" || leaf.Agent.Method != "inherited" || call.Agent.Method != "env" || helper.Agent.CallID != "" {
		t.Errorf("joins: %+v, %+v, %+v", call.Agent, leaf.Agent, helper.Agent)
	}
}

func TestPlace(t *testing.T) {
	w := newWorld(100)
	at := task{pid: 10, parent: 1}
	first := w.exec(at, "/bin/sh sh")
	moved := w.tree.Place(w.record(at, nil), "/s/below")
	child := w.fork(task{pid: 11, parent: 10})
	if first.Cgroup != "" || moved.Cgroup != "/s/below" || moved.UID != first.UID || child.Cgroup != "/s/below" {
		t.Errorf("%+v, %+v, %+v", first, moved, child)
	}
	if back := w.tree.Place(w.record(at, nil), ""); back.Cgroup != "" || moved.Cgroup == "" {
		t.Errorf("%+v, %+v", moved, back)
	}
}

// TestBurst runs 10,000 short processes through a tree with room for 1,000.
func TestBurst(t *testing.T) {
	const most = 1000
	w := newWorld(most)
	shell := w.exec(task{pid: 10, parent: 1}, "/bin/bash bash")
	for pid := uint32(1000); pid < 11000; pid++ {
		at := task{pid: pid, parent: 10}
		w.fork(at)
		w.exec(at, "/bin/true true")
		if p := w.exit(at); p.Name != "true" || p.Parent != shell {
			t.Fatalf("process %d: %+v", pid, p)
		}
		if w.tree.Len() > most {
			t.Fatalf("%d held", w.tree.Len())
		}
	}
	if got := w.seen(task{pid: 10, parent: 1}); got != shell {
		t.Errorf("who was alive had to go before who was not: %+v", got)
	}
	// Of each process three records were seen, a millisecond apart: at the limit some were over their grace.
	if n := w.tree.Evicted(); n == 0 || n > 10000-most+1 {
		t.Errorf("%d evicted", n)
	}
	w.tree.Expire(w.now)
	w.tree.Expire(w.now.Add(time.Minute))
	if w.tree.Len() != 1 {
		t.Errorf("%d held in the end", w.tree.Len())
	}
}

func TestOnlyTheLiving(t *testing.T) {
	w := newWorld(10)
	for pid := uint32(1); pid <= 100; pid++ {
		w.fork(task{pid: pid + 100, parent: 10})
	}
	if w.tree.Len() != 10 || w.tree.Evicted() != 90 || len(w.tree.Live(sandbox)) != 10 {
		t.Errorf("%d held, %d evicted", w.tree.Len(), w.tree.Evicted())
	}
}

// TestLongChain forks from child to child, each parent exiting: the ancestors must not pile up.
func TestLongChain(t *testing.T) {
	w := newWorld(100)
	w.exec(task{pid: 1000, parent: 1}, "/bin/bash bash")
	for pid := uint32(1001); pid < 6000; pid++ {
		p := w.fork(task{pid: pid, parent: pid - 1})
		w.exit(task{pid: pid - 1, parent: pid - 2})
		if n := chainLength(p); n > maxChain || pid > 1000+maxChain && n < keepChain {
			t.Fatalf("process %d has %d ancestors", pid, n)
		}
	}
}

// TestFatChain does so with as much text as a process can have.
func TestFatChain(t *testing.T) {
	w := newWorld(100)
	path := "/" + strings.Repeat("d", 4000)
	w.exec(task{pid: 1000, parent: 1}, path+" x")
	for pid := uint32(1001); pid < 1500; pid++ {
		p := w.fork(task{pid: pid, parent: pid - 1})
		if p.Parent == nil {
			t.Fatal("not even the parent is kept")
		}
		w.exec(task{pid: pid, parent: pid - 1}, path+" "+strings.Repeat("a ", 2000))
		bytes := 0
		for q := p.Parent; q != nil; q = q.Parent {
			bytes += size(q)
		}
		if n := w.tree.nodes[p.UID]; bytes != n.bytes || chainLength(p) != n.depth || bytes > maxChainBytes {
			t.Fatalf("process %d keeps %d bytes in %d ancestors, counted as %d in %d", pid, bytes, chainLength(p), n.bytes, n.depth)
		}
	}
}

func TestArgumentsKeptAreBounded(t *testing.T) {
	w := newWorld(100)
	long := strings.Repeat("x", maxArgs*3/4)
	for name, args := range map[string][]string{
		"long": {"echo", long, long, long}, "many": strings.Split(strings.Repeat("a ", 10000), " "), "one": {strings.Repeat(long, 10)},
	} {
		exec := &event.ProcessExec{Executable: "/bin/echo", Args: args, ArgsCount: len(args)}
		p := w.tree.Exec(w.record(task{pid: 10, parent: 1}, exec), exec)
		total := 0
		for i, arg := range p.Args {
			total += argSize + len(arg)
			if !strings.HasPrefix(args[i], arg) || arg != args[i] && i != len(p.Args)-1 {
				t.Errorf("%s: argument %d is %q", name, i, arg)
			}
		}
		if total > maxArgs || total < maxArgs-argSize || len(exec.Args) != len(args) {
			t.Errorf("%s: %d arguments of %d bytes kept, the event has %d", name, len(p.Args), total, len(exec.Args))
		}
	}
}

func TestForget(t *testing.T) {
	w := newWorld(100)
	w.fork(task{pid: 10, parent: 1})
	w.exit(task{pid: 11, parent: 1})
	other := w.record(task{pid: 12, parent: 1}, &bpf.Fork{})
	other.Sandbox = sandbox + 1
	w.tree.Fork(other)
	w.tree.Forget(sandbox)
	if w.tree.Len() != 1 || len(w.tree.Live(sandbox+1)) != 1 {
		t.Errorf("%d held", w.tree.Len())
	}
}

// TestLookupDoesNotAllocate holds the path that every open and connect takes to its budget.
func TestLookupDoesNotAllocate(t *testing.T) {
	w := newWorld(100)
	w.exec(task{pid: 10, parent: 1}, "/bin/bash bash")
	r := w.record(task{pid: 10, parent: 1}, &event.FileOpen{})
	if n := testing.AllocsPerRun(100, func() {
		if !w.tree.Known(r) || w.tree.Seen(r) == nil {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSeen(b *testing.B) {
	w := newWorld(65536)
	records := make([]*bpf.Record, 0, 10000)
	for pid := uint32(100); pid < 10100; pid++ {
		w.fork(task{pid: pid, parent: 10})
		records = append(records, w.record(task{pid: pid, parent: 10}, nil))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.tree.Seen(records[i%len(records)])
	}
}

// BenchmarkShortProcess is a fork, an exec and an exit of one process, in a tree that is full.
func BenchmarkShortProcess(b *testing.B) {
	w := newWorld(4096)
	w.exec(task{pid: 10, parent: 1}, "/bin/bash bash")
	exec := &event.ProcessExec{Executable: "/usr/bin/true", Filename: "/usr/bin/true", Args: []string{"true"}}
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		r := w.record(task{pid: 100 + i%30000, parent: 10, start: 100 + i}, nil)
		w.tree.Fork(r)
		w.tree.Exec(r, exec)
		w.tree.Exit(r)
	}
}

// TestTreesEnd: a tree is over when the last of its processes is forgotten, and each is told of once.
func TestTreesEnd(t *testing.T) {
	w := newWorld(100)
	over := func() (roots []event.ProcessID) {
		w.tree.Expire(w.now)
		w.now = w.now.Add(11 * time.Second)
		w.tree.Expire(w.now)
		for _, o := range w.tree.Over() {
			if o.Sandbox != sandbox {
				t.Errorf("a tree of sandbox %d is over", o.Sandbox)
			}
			roots = append(roots, o.Root)
		}
		return roots
	}
	root := w.fork(task{pid: 10})
	w.fork(task{pid: 11, parent: 10})
	w.exit(task{pid: 10})
	if got := over(); len(got) != 0 {
		t.Errorf("%v are over, and a child of it goes on", got)
	}
	w.fork(task{pid: 12, parent: 11})
	w.exit(task{pid: 11, parent: 10})
	w.exit(task{pid: 12, parent: 11})
	if got := over(); len(got) != 1 || got[0] != root.UID {
		t.Errorf("%v are over, want %v", got, root.UID)
	}
	if got := over(); len(got) != 0 {
		t.Errorf("%v are told to be over again", got)
	}
	// What begins to work for an agent is a tree of its own, the one above it goes on.
	w.fork(task{pid: 20})
	w.fork(task{pid: 21, parent: 20})
	tool := w.exec(task{pid: 21, parent: 20}, "/bin/sh -c true", event.EnvVar{Name: "CODEX_THREAD_ID", Value: "01980000-0000-7000-8000-000000000000"})
	if tool.RootUID != tool.UID {
		t.Fatalf("the root of a tool is %v, want itself", tool.RootUID)
	}
	if !w.tree.Works(sandbox, tool.Agent.SessionID+tool.Agent.ConversationID) || w.tree.Works(sandbox+1, tool.Agent.SessionID) || w.tree.Works(sandbox, "another") {
		t.Errorf("who works for %+v is not known", tool.Agent)
	}
	w.exit(task{pid: 21, parent: 20})
	if got := over(); len(got) != 1 || got[0] != tool.UID {
		t.Errorf("%v are over, want %v", got, tool.UID)
	}
	w.tree.Forget(sandbox)
	if got := w.tree.Over(); len(got) != 1 || len(w.tree.trees.sizes) != 0 {
		t.Errorf("%v are over and %v left of a sandbox that is gone", got, w.tree.trees.sizes)
	}
	// What waits to be taken is bounded.
	for pid := range uint32(1000) {
		w.fork(task{pid: 100 + pid})
		w.exit(task{pid: 100 + pid})
	}
	if got := len(over()); got != 100 {
		t.Errorf("%d are told to be over, the most are 100", got)
	}
}
