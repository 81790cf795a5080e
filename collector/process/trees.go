// SPDX-License-Identifier: Apache-2.0

package process

import "github.com/watchglass/watchglass/event"

// Over is a process tree of which no process is left, known by its root.
type Over struct {
	Root event.ProcessID
	// Sandbox is the number of the sandbox of its last process.
	Sandbox uint64
}

// trees is how many processes of each root are held, exited ones among them: records of those come late.
type trees struct {
	// most bounds what waits to be taken; of what is more nobody is told.
	most  int
	sizes map[event.ProcessID]int
	over  []Over
}

// count enters a process under its root, which is another one after some execs.
func (t *trees) count(n *node) {
	root := n.process.RootUID
	if n.tree == root {
		return
	}
	t.leave(n)
	n.tree = root
	t.sizes[root]++
}

// leave takes a process from under its root.
func (t *trees) leave(n *node) {
	if n.tree == 0 {
		return
	}
	if t.sizes[n.tree]--; t.sizes[n.tree] == 0 {
		delete(t.sizes, n.tree)
		if len(t.over) < t.most {
			t.over = append(t.over, Over{Root: n.tree, Sandbox: n.sandbox})
		}
	}
	n.tree = 0
}

// Over is the process trees of which no process is left since it was asked before. What is done with them is over by the
// next call.
func (t *Tree) Over() []Over {
	over := t.trees.over
	t.trees.over = t.trees.over[:0]
	return over
}

// Works says whether a process of a sandbox that has not exited works for a session, by either of its ids.
func (t *Tree) Works(sandbox uint64, session string) bool {
	for n := t.live.front; n != nil; n = n.next {
		if n.sandbox != sandbox || n.process.Agent == nil {
			continue
		}
		if n.process.Agent.SessionID == session || n.process.Agent.ConversationID == session {
			return true
		}
	}
	return false
}
