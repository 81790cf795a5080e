// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Forked takes the birth of a process.
func (t *Tracker) Forked(p *event.Process) {
	r := t.roots[p.RootUID]
	if r == nil || p.UID == r.uid {
		return
	}
	r.born()
	if _, nr := t.inner(r, p); nr != nil && nr.uid != p.UID {
		nr.born()
	}
}

// born counts a new process of a root.
func (r *root) born() {
	r.alive++
	r.totals.Processes++
	if r.session != nil {
		r.session.processes++
	}
}

// Observe takes what a process did, after it is published.
func (t *Tracker) Observe(f Fact) {
	p := f.Process
	r := t.roots[p.RootUID]
	if r == nil {
		t.observeHost(f)
		return
	}
	t.observeRoot(r, f)
	t.observeInner(r, f)
}

func (t *Tracker) observeRoot(r *root, f Fact) {
	p := f.Process
	switch e := f.Payload.(type) {
	case *event.ProcessExit:
		t.exit(r, p, e)
	case *event.FileOpen:
		t.openedFile(r, e, f.Time)
	case *event.NetworkConnect:
		t.connected(r, e, f.Time)
	case *event.NetworkFlow:
		t.flowed(r, e, f.Time)
	case *event.NetworkRequest:
		t.request(r, e, f.Time)
	}
}

func (t *Tracker) observeHost(f Fact) {
	h := t.hosts[f.Process.UID]
	if h == nil {
		return
	}
	switch e := f.Payload.(type) {
	case *event.ProcessExit:
		t.exitedHost(h, f.Process.UID, f.Time)
	case *event.FileOpen:
		h.open(e, f.Time)
	}
}

func (t *Tracker) exit(r *root, p *event.Process, e *event.ProcessExit) {
	r.alive--
	r.latest = e.Exited
	if i, ok := r.byUID[p.UID]; ok {
		r.programs[i].exited, r.programs[i].code, r.programs[i].sig = e.Exited, e.Code, e.Signal
	}
	if p.UID != r.uid || !r.exited.IsZero() {
		if r.alive == 0 && r.call != nil && r.call.joined {
			r.call.dirty = true // what the call had left behind is over too
		}
		return
	}
	r.exited, r.code, r.sig = e.Exited, e.Code, e.Signal
	if r.call != nil {
		r.call.dirty = true
	}
}

// program remembers one process with its last command line.
func (t *Tracker) program(r *root, p *event.Process, exec *event.ProcessExec, at time.Time) {
	if i, ok := r.byUID[p.UID]; ok {
		was := &r.programs[i]
		r.place.bytes -= len(was.line)
		was.line = t.keep(r.place, string(exec.AppendBody(nil)), maxPath)
		return
	}
	if len(r.programs) >= t.cfg.MaxObjects || r.byUID == nil {
		r.omitted++
		t.counts.objects++
		return
	}
	r.byUID[p.UID] = len(r.programs)
	r.programs = append(r.programs, program{
		uid: p.UID, parent: p.ParentUID, pid: p.PID, started: at, line: t.keep(r.place, string(exec.AppendBody(nil)), maxPath),
	})
}

// writes says whether an open may change the file.
func writes(f *event.FileOpen) bool {
	return f.Access&(event.AccessWrite|event.AccessCreate|event.AccessTruncate|event.AccessAppend) != 0
}

func (t *Tracker) openedFile(r *root, f *event.FileOpen, at time.Time) {
	kind := fileRead
	if writes(f) {
		kind = fileWritten
	}
	if f.Error == 0 {
		if kind == fileWritten {
			r.totals.FilesWritten++
		} else {
			r.totals.FilesRead++
		}
	}
	// What every program opens to start says nothing of the call.
	if f.Class == event.FileClassSystem || f.Class == event.FileClassProc {
		return
	}
	o := t.object(r, objectKey{kind: kind, name: f.Path}, at)
	if o != nil && f.Error != 0 {
		o.failed++
	}
}

// localEnd is the local end of a connection that a root's processes made.
type localEnd struct {
	local, peer netip.AddrPort
	root        event.ProcessID
	at          time.Time
}

// maxEnds bounds the local ends that are remembered of one sandbox.
const maxEnds = 256

func (t *Tracker) connected(r *root, n *event.NetworkConnect, at time.Time) {
	r.totals.Connections++
	if p := r.place; n.Local.IsValid() {
		if len(p.ends) == maxEnds {
			copy(p.ends, p.ends[1:])
			p.ends = p.ends[:maxEnds-1]
		}
		p.ends = append(p.ends, localEnd{n.Local, n.Peer, r.uid, at})
	}
	if n.Error == 0 {
		t.reach(r, reached{peer: n.Peer, name: n.PeerName, udp: n.Transport == event.TransportUDP, at: at})
	}
	o := t.object(r, objectKey{kind: connection, peer: n.Peer, udp: n.Transport == event.TransportUDP}, at)
	if o == nil {
		return
	}
	if n.Error != 0 {
		o.failed++
	}
	if o.host == "" && n.PeerName != "" {
		o.host = n.PeerName
	}
}

func (t *Tracker) flowed(r *root, n *event.NetworkFlow, at time.Time) {
	sent, received := n.Sent-n.ToldSent, n.Received-n.ToldReceived
	r.totals.BytesSent += sent
	r.totals.BytesReceived += received
	if n.Inbound {
		return // its peer is nobody that was connected to
	}
	if o := t.object(r, objectKey{kind: connection, peer: n.Peer, udp: n.Transport == event.TransportUDP}, at); o != nil {
		o.n-- // the connect counted it
		o.sent += sent
		o.received += received
	}
}

// object is the entry of a file or a peer, nil when there is no room for a new one.
func (t *Tracker) object(r *root, key objectKey, at time.Time) *object {
	if len(key.name) > maxPath {
		key.name = key.name[:maxPath]
	}
	if i, ok := r.index[key]; ok {
		o := &r.objects[i]
		o.n, o.last = o.n+1, at
		return o
	}
	if len(r.objects) >= t.cfg.MaxObjects || r.index == nil {
		r.omitted++
		t.counts.objects++
		return nil
	}
	if key.name != "" {
		if key.name = t.keep(r.place, key.name, maxPath); key.name == "" {
			r.omitted++
			return nil
		}
	}
	r.index[key] = len(r.objects)
	r.objects = append(r.objects, object{objectKey: key, first: at, last: at, n: 1})
	return &r.objects[len(r.objects)-1]
}
