// SPDX-License-Identifier: Apache-2.0

package process

import (
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// Recall enters a process that the events of a collector before tell of, with what it worked for; after its parent, whose
// child it then is. The tree's owner must own it. It is kept for the grace period, since it may be over: the first record
// of it brings it back to life, and those that descend from it keep it as their ancestor in any case. Nothing is
// entered that the tree has already, nor when it is full.
func (t *Tree) Recall(p *event.Process, sandbox uint64) {
	if p.UID == 0 || t.nodes[p.UID] != nil || len(t.nodes) >= t.cfg.Max {
		return
	}
	p.Args = cutArgs(p.Args)
	n := &node{process: p, sandbox: sandbox, recalled: true, exited: true}
	if parent := t.nodes[p.ParentUID]; parent != nil && p.ParentUID != 0 && parent.sandbox == sandbox {
		t.descend(p, n, parent)
	}
	t.exited.push(n)
	t.nodes[p.UID] = n
	t.trees.count(n)
	t.size.Store(int64(len(t.nodes)))
}

// revive takes the first record of a process that was only recalled: it is alive, or was until now.
func (t *Tree) revive(n *node, r *bpf.Record) {
	n.recalled, n.exited, n.heard, n.start = false, false, time.Time{}, r.Task.Start
	t.exited.remove(n)
	t.live.push(n)
	t.pids[n.process.PID] = n
}
