// SPDX-License-Identifier: Apache-2.0

package process

import (
	"testing"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// TestRecall has a tree go on where another ended: with an ancestor that is over, and a process whose call is known.
func TestRecall(t *testing.T) {
	before, w := newWorld(100), newWorld(100)
	call := &event.Agent{Name: "codex", CallID: "call_1", Method: "env", Confidence: "exact"}
	before.exec(task{pid: 10, parent: 1}, "/usr/bin/codex codex")
	before.exec(task{pid: 11, parent: 10}, "/bin/sh sh -c build")
	r := before.record(task{pid: 11, parent: 10}, nil)
	tool := before.tree.Join(r, call)
	for _, p := range []*event.Process{tool.Parent, tool} {
		was := *p
		was.Parent = nil
		w.tree.Recall(&was, sandbox)
	}
	found := &bpf.Existing{Executable: "/bin/sh", Args: []string{"what it says itself"}}
	// Its parent is over, so that the kernel names another.
	r = w.record(task{pid: 11, parent: 1}, found)
	if w.tree.Known(r) || len(w.tree.Live(sandbox)) != 0 {
		t.Error("what is only recalled counts as seen")
	}
	got := w.tree.Existing(r, found)
	if got.Agent == nil || got.Agent.CallID != "call_1" || got.RootUID != tool.RootUID || got.Args[len(got.Args)-1] != "build" {
		t.Errorf("the process is %+v of %+v", got, got.Agent)
	}
	if got.Parent == nil || got.Parent.Name != "codex" {
		t.Errorf("its parent is %+v", got.Parent)
	}
	if !w.tree.Known(r) || len(w.tree.Live(sandbox)) != 1 {
		t.Error("what is alive does not count as seen")
	}
	w.now = w.now.Add(time.Minute)
	w.tree.Expire(w.now.Add(-10 * time.Second))
	w.tree.Expire(w.now)
	if n := w.tree.Len(); n != 1 {
		t.Errorf("%d processes are kept after the grace period, want the one that is alive", n)
	}
	child := w.fork(task{pid: 12, parent: 11})
	if child.Agent == nil || child.Agent.CallID != "call_1" || child.Parent.Parent.Name != "codex" {
		t.Errorf("its child is %+v", child)
	}
	// One that runs another program by now is told by the kernel.
	other := *tool
	other.UID, other.PID, other.Parent = w.tree.Identity(20, 20_000_000), 20, nil
	w.tree.Recall(&other, sandbox)
	if got := w.tree.Existing(w.record(task{pid: 20, parent: 1}, nil), &bpf.Existing{Executable: "/bin/ls", Args: []string{"ls"}}); got.Name != "ls" {
		t.Errorf("the process is %+v", got)
	}
	w.exit(task{pid: 20, parent: 1})
	if n := len(w.tree.Live(sandbox)); n != 2 {
		t.Errorf("%d processes are alive", n)
	}
}

// TestRecallIsBounded: a full tree takes no process in, and what is known of the kernel stays.
func TestRecallIsBounded(t *testing.T) {
	w := newWorld(2)
	w.exec(task{pid: 10, parent: 1}, "/bin/sh sh")
	stays := w.seen(task{pid: 10, parent: 1})
	for pid := range uint32(5) {
		w.tree.Recall(&event.Process{UID: w.tree.Identity(10+pid, 1_000_000*uint64(10+pid)), PID: 10 + pid, Name: "old"}, sandbox)
	}
	if w.tree.Len() != 2 || w.seen(task{pid: 10, parent: 1}) != stays || w.tree.Evicted() != 0 {
		t.Errorf("%d processes, %d evicted", w.tree.Len(), w.tree.Evicted())
	}
}
