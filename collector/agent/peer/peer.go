// SPDX-License-Identifier: Apache-2.0

// Package peer finds out who is at the other end of a connection, from the kernel alone.
//
// It owns the ways to do that: the connect events of the sandboxes, the kernel's table of sockets with the
// descriptors of processes, and the credentials of a unix socket. It must not look at what comes over the
// connection: that is the sender's word.
package peer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/bounded"
	"github.com/watchglass/watchglass/event"
)

// Bounds of what is remembered of connects, and how long one is looked for.
const (
	maxSandboxes = 1024
	// maxConnects is how many connects of each sandbox are remembered. One is needed only until its connection's
	// first byte.
	maxConnects = 512
	// recordWait is for how long the kernel's record of a connect is waited for, which comes within 20 ms.
	recordWait  = 60 * time.Millisecond
	recordRetry = 5 * time.Millisecond
	// connectAge is how old a connect may be to be that of a connection whose socket is gone already.
	connectAge = time.Minute
)

// Settings is what a Finder needs. All must be set.
type Settings struct {
	// Sandbox is the cgroup id of the watched sandbox that a process is in, 0 for none.
	Sandbox func(pid uint32) uint64
	Logger  *slog.Logger
}

// Validate says what is missing.
func (s *Settings) Validate() error {
	if s.Sandbox == nil || s.Logger == nil {
		return errors.New("peer finder: no look-up of sandboxes or no logger")
	}
	return nil
}

// Finder finds the processes at the other end of connections. Its methods may be called from any goroutine.
type Finder struct {
	settings Settings
	// ports is the ports whose connects matter.
	ports atomic.Pointer[map[uint16]struct{}]

	mu       sync.Mutex
	connects *bounded.Idle[uint64, *bounded.Table[ends, connect]]
	// next is the search that those who ask now will share, nil for none; searching is true while one goes on.
	next      *search
	searching bool
}

// ends is the two ends of a TCP connection.
type ends struct{ client, server netip.AddrPort }

// connect is who made one, as the kernel told.
type connect struct {
	origin agent.Origin
	at     time.Time
}

// New makes a Finder.
func New(s Settings) (*Finder, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	f := &Finder{settings: s, connects: bounded.NewIdle[uint64, *bounded.Table[ends, connect]](maxSandboxes, connectAge)}
	f.ports.Store(&map[uint16]struct{}{})
	return f, nil
}

// Watch says on which ports connections are accepted; connects to others are not remembered.
func (f *Finder) Watch(ports ...uint16) {
	set := make(map[uint16]struct{}, len(ports))
	for _, port := range ports {
		set[port] = struct{}{}
	}
	f.ports.Store(&set)
}

// Connected takes the kernel's record of a connect. It returns at once.
func (f *Finder) Connected(r *bpf.Record, c *event.NetworkConnect) {
	if _, ok := (*f.ports.Load())[c.Peer.Port()]; !ok || c.Transport != event.TransportTCP || !c.Local.IsValid() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	table := f.connects.Use(r.Sandbox, r.Time, func() *bounded.Table[ends, connect] { return bounded.New[ends, connect](maxConnects) })
	table.Put(ends{unmapped(c.Local), unmapped(c.Peer)}, connect{
		origin: agent.Origin{Sandbox: r.Sandbox, PID: r.Task.PID, Start: r.Task.Start}, at: r.Time,
	})
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// candidates is who connected these ends, as far as the records say: more than one where network namespaces have
// the same addresses.
func (f *Finder) candidates(e ends) []connect {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []connect
	for table := range f.connects.All() {
		if c, ok := table.Get(e); ok {
			found = append(found, c)
		}
	}
	return found
}

// Of is the process at the other end of a connection; the zero Origin when it cannot be found, or is in no sandbox.
func (f *Finder) Of(ctx context.Context, c net.Conn) agent.Origin {
	switch c := c.(type) {
	case *net.UnixConn:
		if t := OfUnix(c, f.settings.Sandbox); t.Sandbox != 0 {
			return t.Origin()
		}
	case *net.TCPConn:
		client, err := netip.ParseAddrPort(c.RemoteAddr().String())
		server, err2 := netip.ParseAddrPort(c.LocalAddr().String())
		if err == nil && err2 == nil {
			return f.ofTCP(ctx, ends{unmapped(client), unmapped(server)})
		}
	}
	return agent.Origin{}
}

// ofTCP finds the owner of the socket at the client's end, which is in this network namespace or not on this
// machine. A sandbox with a network namespace of its own can make a connection with the same ends there: that the
// process holds this very socket is what counts, and its connect event only says where to look first.
func (f *Finder) ofTCP(ctx context.Context, e ends) agent.Origin {
	inode, err := socketInode(e)
	if err != nil {
		f.settings.Logger.Debug("the socket of an agent's connection is not found", "client", e.client.String(), "error", err)
	}
	deadline := time.Now().Add(recordWait)
	for {
		candidates := f.candidates(e)
		if inode == 0 && len(candidates) > 0 {
			return f.withoutSocket(candidates)
		}
		for _, c := range candidates {
			if inode != 0 && holds(c.origin.PID, inode) && sameStart(c.origin) {
				return c.origin
			}
		}
		if time.Now().After(deadline) {
			break
		}
		select {
		case <-time.After(recordRetry):
		case <-ctx.Done():
			return agent.Origin{}
		}
	}
	if inode == 0 {
		return agent.Origin{}
	}
	return f.scan(ctx, inode)
}

// withoutSocket decides by the connect events alone: the client has closed its socket already. There must be one
// candidate only, lately, that is not known to be in another network namespace.
func (f *Finder) withoutSocket(candidates []connect) agent.Origin {
	var found agent.Origin
	for _, c := range candidates {
		if time.Since(c.at) > connectAge || elsewhere(c.origin.PID) {
			continue
		}
		if found.Known() {
			return agent.Origin{}
		}
		found = c.origin
	}
	return found
}
