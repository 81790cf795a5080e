// SPDX-License-Identifier: Apache-2.0

// Package process is the process tree: who every process is, whose child, and what it works for.
//
// It owns identity (ProcessID), ancestry and the inheritance of joins, bounded in number and in the
// memory of each entry. It must not publish anything or know of sandboxes more than their number.
package process

import (
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/slab"
)

const (
	// maxChain is the longest chain of parents and maxChainBytes the most memory of one; beyond either it is
	// cut to keepChain and keepChainBytes, so that a process that forks and exits for ever does not keep all
	// its ancestors in memory. Ancestors that the tree has forgotten live on in the chains of their
	// descendants, so maxChainBytes times Config.Max bounds them.
	maxChain, keepChain           = 32, 16
	maxChainBytes, keepChainBytes = 16 << 10, 8 << 10
	// argSize is what an argument takes besides its bytes.
	argSize = 16
	// maxArgs bounds the arguments kept of one process, in bytes; the event itself has all of them.
	maxArgs = 2048
	// sharedChunk is how many processes are made at once; one that is kept keeps the others, so that those that are
	// large themselves, or have a long chain, are made alone.
	sharedChunk, sharedSize, sharedChain = 8, 1 << 10, 4 << 10
)

// Config is the bounds of a tree.
type Config struct {
	// BootID makes identities differ between boots.
	BootID string
	// Max is the most processes held. At the limit the one that exited longest ago goes first, then the oldest.
	Max int
	// Grace is for how long an exited process is kept for records that come late, from when its exit was read.
	Grace time.Duration
}

// Tree is the processes of all sandboxes. Only its counters may be read by other goroutines.
type Tree struct {
	cfg    Config
	seed   uint64
	joiner *agent.Joiner
	nodes  map[event.ProcessID]*node
	pids   map[uint32]*node // the latest process of each pid
	live   order            // oldest first
	exited order            // first exited first
	trees  trees
	// unused is entries that were removed, to be used again: nobody else has them.
	unused    []*node
	processes slab.Of[event.Process]
	names     slab.Lists[string]

	size    atomic.Int64
	evicted atomic.Uint64
}

type node struct {
	process *event.Process
	sandbox uint64
	// start is in nanoseconds since boot.
	start uint64
	// credentials is who it was known to act as last; nil when not known. Shared, never change it.
	credentials *event.Credentials
	// depth and bytes are the length and the size of the chain of parents.
	depth, bytes int
	// recalled is true while nothing but the events of a collector before tells of it.
	recalled bool
	exited   bool
	// heard is when time was looked at first after its exit was read; what is said of it until then may be old.
	heard time.Time
	// tree is the root under which it counts.
	tree event.ProcessID
	// previous and next are its neighbours in the order that it is in.
	previous, next *node
}

// New makes an empty tree.
func New(cfg Config) *Tree {
	return &Tree{
		cfg: cfg, seed: hashString(cfg.BootID), joiner: agent.NewJoiner(),
		nodes: map[event.ProcessID]*node{}, pids: map[uint32]*node{}, processes: slab.Of[event.Process]{Chunk: sharedChunk},
		trees: trees{most: cfg.Max, sizes: map[event.ProcessID]int{}},
	}
}

// Len is how many processes are held, Evicted how many had to go before their time.
func (t *Tree) Len() int { return int(t.size.Load()) }

// Evicted is how many processes had to be forgotten for lack of room.
func (t *Tree) Evicted() uint64 { return t.evicted.Load() }

// Identity is the stable identity of a process of this boot; 0 when the start time is not known.
func (t *Tree) Identity(pid uint32, start uint64) event.ProcessID {
	if start == 0 {
		return 0
	}
	h := mix(mix(t.seed^uint64(pid)) ^ start)
	if h == 0 {
		h = 1
	}
	return event.ProcessID(h)
}

// Seen is the process of a record as it is now. One that was never seen is entered with what the
// record's header tells.
func (t *Tree) Seen(r *bpf.Record) *event.Process { return t.seen(r).process }

// Find is the process with an identity, nil when the tree does not have it.
func (t *Tree) Find(id event.ProcessID) *event.Process {
	if n := t.nodes[id]; n != nil {
		return n.process
	}
	return nil
}

// Locate is the process that an origin names, nil when the tree does not have it. The origin's start time may be
// of /proc, which is coarser than the kernel's.
func (t *Tree) Locate(o agent.Origin) *event.Process {
	if p := t.Find(t.Identity(o.PID, o.Start)); p != nil {
		return p
	}
	if n := t.pids[o.PID]; n != nil && o.SameProcess(n.process.PID, n.start) {
		return n.process
	}
	return nil
}

// Known says whether the record's process is in the tree, by a record before.
func (t *Tree) Known(r *bpf.Record) bool {
	n := t.nodes[t.Identity(r.Task.PID, r.Task.Start)]
	return n != nil && !n.recalled
}

func (t *Tree) seen(r *bpf.Record) *node {
	id := t.Identity(r.Task.PID, r.Task.Start)
	if n := t.nodes[id]; n != nil {
		if n.recalled {
			t.revive(n, r)
		}
		return n
	}
	return t.enter(id, r)
}

// enter makes the entry of a process, as its parent's child as far as the parent is known.
func (t *Tree) enter(id event.ProcessID, r *bpf.Record) *node {
	p := event.Process{
		UID: id, PID: r.Task.PID, VPID: r.Task.VPID, ParentPID: r.Task.ParentPID,
		ParentUID: t.Identity(r.Task.ParentPID, r.Task.ParentStart), RootUID: id,
		UserID: r.Task.UserID, GroupID: r.Task.GroupID, Start: r.Task.StartTime, Name: r.Task.Comm,
	}
	n := t.entry()
	n.sandbox, n.start = r.Sandbox, r.Task.Start
	if parent := t.nodes[p.ParentUID]; parent != nil && p.ParentUID != 0 && parent.sandbox == r.Sandbox {
		t.adopt(&p, n, parent)
	}
	n.process = t.keep(n, &p)
	t.makeRoom(r.Time)
	t.live.push(n)
	t.nodes[id], t.pids[p.PID] = n, n
	t.size.Store(int64(len(t.nodes)))
	t.trees.count(n)
	return n
}

// entry is an empty entry.
func (t *Tree) entry() *node {
	if last := len(t.unused) - 1; last >= 0 {
		n := t.unused[last]
		t.unused = t.unused[:last]
		return n
	}
	return &node{}
}

// keep is a process to be shared: p is the caller's own.
func (t *Tree) keep(n *node, p *event.Process) *event.Process {
	if n.bytes > sharedChain || size(p) > sharedSize {
		kept := *p
		return &kept
	}
	kept := t.processes.New()
	*kept = *p
	return kept
}

// adopt gives a new process what it has from its parent: the program, until it execs, and the join.
func (t *Tree) adopt(p *event.Process, n, parent *node) {
	from := parent.process
	t.descend(p, n, parent)
	p.Executable, p.Name, p.Args, p.Cgroup = from.Executable, from.Name, from.Args, from.Cgroup
	p.Agent = agent.Inherit(from.Agent)
	n.credentials = parent.credentials
	if !agent.IsAgent(from.Agent) {
		p.RootUID = from.RootUID
	}
}

// descend puts a process below its parent.
func (t *Tree) descend(p *event.Process, n, parent *node) {
	from := parent.process
	p.Parent, n.depth, n.bytes = from, parent.depth+1, parent.bytes+size(from)
	if n.depth > maxChain || n.bytes > maxChainBytes {
		p.Parent, n.depth, n.bytes = cut(from)
	}
}

// Fork enters a new process. The result is the child.
func (t *Tree) Fork(r *bpf.Record) *event.Process { return t.seen(r).process }

// Existing enters a process that was alive before it was watched.
func (t *Tree) Existing(r *bpf.Record, found *bpf.Existing) *event.Process {
	told := t.nodes[t.Identity(r.Task.PID, r.Task.Start)]
	recalled := told != nil && told.recalled
	n := t.seen(r)
	if found.Executable == "" || recalled && found.Executable == n.process.Executable {
		return n.process // of what the events told the process itself says no more
	}
	exec := &event.ProcessExec{Executable: found.Executable, Args: found.Args, Env: nil}
	return t.run(n, r, exec)
}

// Exec notes a new program. The result is a new value with the same UID; exec gets its ancestry.
func (t *Tree) Exec(r *bpf.Record, exec *event.ProcessExec) *event.Process {
	n := t.seen(r)
	p := t.run(n, r, exec)
	var names [keepChain]string
	exec.Ancestry = t.names.Of(p.AppendAncestry(names[:0], keepChain))
	return p
}

func (t *Tree) run(n *node, r *bpf.Record, exec *event.ProcessExec) *event.Process {
	p := *n.process
	p.Executable, p.Name, p.Args = exec.Executable, path.Base(exec.Executable), cutArgs(exec.Args)
	if p.Executable == "" {
		p.Name = r.Task.Comm
	}
	p.UserID, p.GroupID, p.VPID = r.Task.UserID, r.Task.GroupID, r.Task.VPID
	p.Agent = t.joiner.Join(n.process.Agent, exec)
	if n.process.Agent == nil && p.Agent != nil && !agent.IsAgent(p.Agent) {
		p.RootUID = p.UID // nothing above it works for an agent, as far as is seen: what it says is of it and those below
	}
	n.process = t.keep(n, &p)
	t.trees.count(n)
	return n.process
}

// Place notes the path of the cgroup that a process is in, "" for the sandbox's own or an unknown one. The
// result is a new value with the same UID.
func (t *Tree) Place(r *bpf.Record, cgroup string) *event.Process {
	n := t.seen(r)
	p := *n.process
	p.Cgroup = cgroup
	n.process = t.keep(n, &p)
	return n.process
}

// Join notes what a process works for. The result is a new value with the same UID.
func (t *Tree) Join(r *bpf.Record, a *event.Agent) *event.Process {
	n := t.seen(r)
	p := *n.process
	p.Agent = a
	n.process = t.keep(n, &p)
	return n.process
}

// Acts notes who a process acts as now, and returns who it was known to act as before; nil when that is not known.
func (t *Tree) Acts(r *bpf.Record, now *event.Credentials) (before *event.Credentials) {
	n := t.seen(r)
	before, n.credentials = n.credentials, now
	return before
}

// Move notes that a process is the record's sandbox's now.
func (t *Tree) Move(r *bpf.Record) *event.Process {
	n := t.seen(r)
	n.sandbox = r.Sandbox
	return n.process
}

// Exit notes the end of a process, which is then kept for the grace period.
func (t *Tree) Exit(r *bpf.Record) *event.Process {
	n := t.seen(r)
	if !n.exited {
		n.exited = true
		t.live.remove(n)
		t.exited.push(n)
	}
	return n.process
}

// Expire forgets the processes whose grace period is over.
func (t *Tree) Expire(now time.Time) {
	// From when its exit was read: a collector that was held up, or takes over, reads an exit long after it, and then what
	// other rings have of the process.
	for n := t.exited.back; n != nil && n.heard.IsZero(); n = n.previous {
		n.heard = now
	}
	for n := t.exited.front; n != nil && now.Sub(n.heard) >= t.cfg.Grace; n = t.exited.front {
		t.remove(n)
	}
}

// Live is the processes of a sandbox that have not exited, oldest first.
func (t *Tree) Live(sandbox uint64) []*event.Process {
	var alive []*event.Process
	for n := t.live.front; n != nil; n = n.next {
		if n.sandbox == sandbox {
			alive = append(alive, n.process)
		}
	}
	return alive
}

// Numbered is the live process that a record's task means by a number, in its own PID namespace, and whether it is of the
// record's sandbox. Nil when no such process is known. Of a namespace other than the machine's only the processes of the
// sandbox can be told apart, and of those that were forked last no more than are looked through.
func (t *Tree) Numbered(r *bpf.Record, number uint32) (target *event.Process, its bool) {
	const most = 4096
	if r.Task.VPID == r.Task.PID {
		n := t.pids[number]
		if n == nil || n.exited {
			return nil, false
		}
		return n.process, n.sandbox == r.Sandbox
	}
	n := t.live.back
	for range most {
		if n == nil {
			break
		}
		if n.sandbox == r.Sandbox && n.process.VPID == number {
			return n.process, true
		}
		n = n.previous
	}
	return nil, false
}

// Forget drops all processes of a sandbox.
func (t *Tree) Forget(sandbox uint64) {
	for _, n := range t.nodes {
		if n.sandbox == sandbox {
			t.remove(n)
		}
	}
}

func (t *Tree) makeRoom(now time.Time) {
	for len(t.nodes) >= t.cfg.Max {
		t.Expire(now)
		if len(t.nodes) < t.cfg.Max {
			return
		}
		oldest := t.exited.front
		if oldest == nil {
			oldest = t.live.front
		}
		t.remove(oldest)
		t.evicted.Add(1)
	}
}

func (t *Tree) remove(n *node) {
	if !n.exited {
		t.live.remove(n)
	} else {
		t.exited.remove(n)
	}
	delete(t.nodes, n.process.UID)
	t.trees.leave(n)
	if t.pids[n.process.PID] == n {
		delete(t.pids, n.process.PID)
	}
	t.size.Store(int64(len(t.nodes)))
	*n = node{}
	t.unused = append(t.unused, n)
}

// cut copies the nearest ancestors, the parent in any case, and lets go of those beyond.
func cut(from *event.Process) (chain *event.Process, depth, bytes int) {
	last := &chain
	for q := from; q != nil && depth < keepChain && (depth == 0 || bytes+size(q) <= keepChainBytes); q = q.Parent {
		kept := *q
		kept.Parent = nil
		*last, last = &kept, &kept.Parent
		depth, bytes = depth+1, bytes+size(q)
	}
	return chain, depth, bytes
}

// size is about how much memory one process in a chain takes.
func size(p *event.Process) int {
	const fixed = 256
	n := fixed + len(p.Executable) + len(p.Cgroup) // of which the name is a part
	for _, arg := range p.Args {
		n += argSize + len(arg)
	}
	return n
}

// cutArgs is args, or the first of them cloned where all would keep too much memory.
func cutArgs(args []string) []string {
	total := 0
	for i, arg := range args {
		total += argSize + len(arg)
		if total <= maxArgs {
			continue
		}
		kept := make([]string, 0, i+1)
		for _, a := range args[:i] {
			kept = append(kept, strings.Clone(a))
		}
		if left := maxArgs - (total - len(arg)); left > 0 {
			kept = append(kept, strings.Clone(arg[:left]))
		}
		return kept
	}
	return args
}

// hashString is FNV-1a: stable between builds and nodes, which the runtime's own hash is not.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix is the finaliser of SplitMix64: every bit of the input changes every bit of the output.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
