// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/collector/agent"
)

// Bounds of a look through /proc. A process with more descriptors is its own loss.
const (
	maxProcesses   = 1 << 16
	maxDescriptors = 1 << 14
	maxStat        = 4 << 10
	readBatch      = 256
)

// inetDiagSize is the sizes of the kernel's struct inet_diag_req_v2 and of the begin of inet_diag_msg that is read;
// see sock_diag(7).
const (
	inetDiagRequestSize = 56
	inetDiagInodeAt     = 68
	sockDiagByFamily    = 20
)

// socketInode is the inode of the socket at the client's end, in this network namespace; 0 when it has none any
// more. It asks the kernel for exactly this one, which costs one look into the hash table of connections.
func socketInode(e ends) (uint32, error) {
	connection, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return 0, fmt.Errorf("open sock_diag: %w", err)
	}
	defer func() { _ = connection.Close() }()
	answers, err := connection.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request}, Data: diagRequest(e),
	})
	if err != nil {
		return 0, fmt.Errorf("ask sock_diag: %w", err)
	}
	for _, answer := range answers {
		if len(answer.Data) >= inetDiagInodeAt+4 {
			return binary.NativeEndian.Uint32(answer.Data[inetDiagInodeAt:]), nil
		}
	}
	return 0, errors.New("ask sock_diag: no answer")
}

// diagRequest is a struct inet_diag_req_v2: family, protocol, two bytes of no matter, four of states; then ports
// and addresses in network order, interface and cookie, of which all ones is none.
func diagRequest(e ends) []byte {
	b := make([]byte, 0, inetDiagRequestSize)
	family := byte(unix.AF_INET)
	if e.client.Addr().Is6() {
		family = unix.AF_INET6
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0))
	b = binary.BigEndian.AppendUint16(b, e.client.Port())
	b = binary.BigEndian.AppendUint16(b, e.server.Port())
	b = appendAddress(b, e.client.Addr())
	b = appendAddress(b, e.server.Addr())
	b = binary.NativeEndian.AppendUint32(b, 0)
	return binary.NativeEndian.AppendUint64(b, ^uint64(0))
}

func appendAddress(b []byte, a netip.Addr) []byte {
	var all [16]byte
	copy(all[:], a.AsSlice())
	return append(b, all[:]...)
}

// holds says whether a process has the socket among its descriptors.
func holds(pid, inode uint32) bool {
	for held := range sockets(pid) {
		if held == inode {
			return true
		}
	}
	return false
}

// sockets is the inodes of the sockets among a process's descriptors.
func sockets(pid uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		f, err := os.Open(dir)
		if err != nil {
			return
		}
		defer func() { _ = f.Close() }()
		for seen := 0; seen < maxDescriptors; {
			names, err := f.Readdirnames(readBatch)
			for _, name := range names {
				target, _ := os.Readlink(dir + "/" + name)
				if inode, ok := parseSocket(target); ok && !yield(inode) {
					return
				}
			}
			if seen += len(names); err != nil {
				return
			}
		}
	}
}

// parseSocket reads the target of a descriptor that is a socket: "socket:[123]".
func parseSocket(target string) (uint32, bool) {
	inode, ok := strings.CutPrefix(target, "socket:[")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(inode, "]"), 10, 32)
	return uint32(n), err == nil
}

// search is one look through all processes for the owners of sockets.
type search struct {
	wanted map[uint32]struct{}
	found  map[uint32]agent.Origin
	done   chan struct{}
}

// scan looks for the process that holds a socket among those in sandboxes. All who ask while one look goes on
// share the next, so that nobody waits for more than two, however many ask.
func (f *Finder) scan(ctx context.Context, inode uint32) agent.Origin {
	f.mu.Lock()
	if f.next == nil {
		f.next = &search{wanted: map[uint32]struct{}{}, found: map[uint32]agent.Origin{}, done: make(chan struct{})}
	}
	s := f.next
	s.wanted[inode] = struct{}{}
	if !f.searching {
		f.searching = true
		go f.searchAll()
	}
	f.mu.Unlock()
	select {
	case <-s.done:
		return s.found[inode]
	case <-ctx.Done():
		return agent.Origin{}
	}
}

// searchAll makes searches as long as there is somebody who asks.
func (f *Finder) searchAll() {
	for {
		f.mu.Lock()
		s := f.next
		f.next = nil
		f.searching = s != nil
		f.mu.Unlock()
		if s == nil {
			return
		}
		f.search(s)
		close(s.done)
	}
}

func (f *Finder) search(s *search) {
	proc, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer func() { _ = proc.Close() }()
	for seen := 0; seen < maxProcesses && len(s.found) < len(s.wanted); {
		names, err := proc.Readdirnames(readBatch)
		for _, name := range names {
			if pid, err := strconv.ParseUint(name, 10, 32); err == nil {
				f.searchIn(s, uint32(pid))
			}
		}
		if seen += len(names); err != nil {
			return
		}
	}
}

func (f *Finder) searchIn(s *search, pid uint32) {
	o := f.origin(pid)
	if o.Sandbox == 0 {
		return
	}
	for inode := range sockets(pid) {
		if _, wanted := s.wanted[inode]; wanted && sameStart(o) {
			s.found[inode] = o
		}
	}
}

// origin is a process in a sandbox; zero when it is in none.
func (f *Finder) origin(pid uint32) agent.Origin {
	sandbox := f.settings.Sandbox(pid)
	if sandbox == 0 {
		return agent.Origin{}
	}
	t, ok := ReadTask(pid)
	if !ok {
		return agent.Origin{}
	}
	t.Sandbox = sandbox
	return t.Origin()
}

// sameStart says whether the process of that pid is still the one: pids are reused.
func sameStart(o agent.Origin) bool {
	t, ok := ReadTask(o.PID)
	return ok && o.SameProcess(o.PID, t.Start)
}

// elsewhere says whether a process is in another network namespace than this one. Of one that has ended nobody knows.
func elsewhere(pid uint32) bool {
	own, err := os.Readlink("/proc/self/ns/net")
	other, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && err2 == nil && own != other
}
