// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// networkCase is one way to reach a peer: what the helper does, and the events that must come of it.
type networkCase struct {
	name string
	// listen is where the test listens: a network and an address of net.Listen; "" for nowhere.
	listen string
	// server is what the test does with each connection; nil closes it.
	server func(net.Conn) error
	// do runs in the helper and reaches the peer.
	do func(peer netip.AddrPort) error
	// flags is the namespaces that the helper gets of its own.
	flags uintptr

	transport event.Transport
	err       event.Errno
	claimed   bool
	// connects is how many connects must be seen; 0 means 1.
	connects int
	// flow is the bytes that the flow must show; nil for no flow.
	flow *[2]uint64
}

// dial makes a blocking socket and connects it.
func dial(peer netip.AddrPort, kind, protocol int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind, protocol)
	if err != nil {
		return -1, fmt.Errorf("socket: %s", err.Error())
	}
	return fd, unix.Connect(fd, &unix.SockaddrInet4{Addr: peer.Addr().As4(), Port: int(peer.Port())})
}

// exchange sends and receives so many bytes, then waits for the peer's end when it is to close first.
func exchange(fd, send, receive int, peerFirst bool) error {
	if err := writeAll(fd, send); err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for got := 0; got < receive; {
		n, err := unix.Read(fd, buffer[:min(len(buffer), receive-got)])
		if err != nil || n == 0 {
			return fmt.Errorf("read %d bytes of %d: %w", got, receive, err)
		}
		got += n
	}
	if peerFirst {
		if n, err := unix.Read(fd, buffer); n != 0 || err != nil {
			return fmt.Errorf("waiting for the peer's end: read %d bytes: %w", n, err)
		}
	}
	return unix.Close(fd)
}

func writeAll(fd, size int) error {
	buffer := make([]byte, 64<<10)
	for sent := 0; sent < size; {
		n, err := unix.Write(fd, buffer[:min(len(buffer), size-sent)])
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		sent += n
	}
	return nil
}

// serve takes and gives so many bytes; then it closes, or waits for the peer to.
func serve(take, give int, first bool) func(net.Conn) error {
	return func(c net.Conn) error {
		if _, err := io.CopyN(io.Discard, c, int64(take)); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if _, err := c.Write(make([]byte, give)); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		if !first {
			_, err := io.Copy(io.Discard, c)
			return err
		}
		return nil
	}
}

const (
	tcp  = event.TransportTCP
	udp  = event.TransportUDP
	none = "" // nobody listens
)

func networkCases() []networkCase {
	cases := []networkCase{
		{
			name: "TCP, closed here first", listen: "127.0.0.1:0", transport: tcp, flow: &[2]uint64{1000, 3000},
			server: serve(1000, 3000, false),
			do: func(peer netip.AddrPort) error {
				fd, err := dial(peer, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				return exchange(fd, 1000, 3000, false)
			},
		},
		{
			name: "TCP, closed there first", listen: "127.0.0.1:0", transport: tcp, flow: &[2]uint64{1, 2},
			server: serve(1, 2, true),
			do: func(peer netip.AddrPort) error {
				fd, err := dial(peer, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				return exchange(fd, 1, 2, true)
			},
		},
		{
			name: "TCP, nothing sent", listen: "127.0.0.1:0", transport: tcp, flow: &[2]uint64{0, 0},
			server: serve(0, 0, true),
			do: func(peer netip.AddrPort) error {
				fd, err := dial(peer, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				return exchange(fd, 0, 0, true)
			},
		},
		{
			name: "TCP, much", listen: "127.0.0.1:0", transport: tcp, flow: &[2]uint64{20 << 20, 10 << 20},
			server: serve(20<<20, 10<<20, true),
			do: func(peer netip.AddrPort) error {
				fd, err := dial(peer, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				return exchange(fd, 20<<20, 10<<20, true)
			},
		},
		{
			name: "TCP, not blocking", listen: "127.0.0.1:0", transport: tcp, flow: &[2]uint64{5, 7},
			server: serve(5, 7, true),
			do: func(peer netip.AddrPort) error {
				c, err := net.Dial("tcp", peer.String())
				if err != nil {
					return err
				}
				if _, err := c.Write(make([]byte, 5)); err != nil {
					return err
				}
				if _, err := io.Copy(io.Discard, c); err != nil {
					return err
				}
				return c.Close()
			},
		},
		{
			name: "TCP over IPv6", listen: "[::1]:0", transport: tcp, flow: &[2]uint64{5, 7},
			server: serve(5, 7, true),
			do: func(peer netip.AddrPort) error {
				return dial6(peer, 5, 7)
			},
		},
		{
			name: "TCP to a v4-mapped address", listen: "127.0.0.1:0", transport: tcp, flow: &[2]uint64{5, 7},
			server: serve(5, 7, true),
			do: func(peer netip.AddrPort) error {
				return dial6(peer, 5, 7)
			},
		},
		{
			name: "MPTCP", listen: "127.0.0.1:0", transport: tcp, flow: &[2]uint64{1000, 3000},
			server: serve(1000, 3000, true),
			do: func(peer netip.AddrPort) error {
				fd, err := dial(peer, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
				if err != nil {
					return err
				}
				return exchange(fd, 1000, 3000, true)
			},
		},
		{
			name: "TCP refused", listen: none, transport: tcp, err: event.Errno(unix.ECONNREFUSED),
			do: func(peer netip.AddrPort) error {
				_, err := dial(peer, unix.SOCK_STREAM, 0)
				return err
			},
		},
		{
			name: "TCP refused, not blocking", listen: none, transport: tcp, err: event.Errno(unix.ECONNREFUSED),
			do: func(peer netip.AddrPort) error {
				_, err := net.Dial("tcp", peer.String())
				return err
			},
		},
		{
			name: "TCP, no route", listen: none, flags: unix.CLONE_NEWNET, transport: tcp,
			err: event.Errno(unix.ENETUNREACH),
			do: func(peer netip.AddrPort) error {
				_, err := dial(peer, unix.SOCK_STREAM, 0)
				return err
			},
		},
		{
			name: "TCP, no free port", listen: "127.0.0.1:0", transport: tcp, err: event.Errno(unix.EADDRNOTAVAIL),
			server: serve(0, 0, false), connects: 1,
			do: func(peer netip.AddrPort) error {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				return usedPort(fd, peer)
			},
		},
		{name: "UDP connect", listen: none, transport: udp, do: func(peer netip.AddrPort) error {
			_, err := dial(peer, unix.SOCK_DGRAM, 0)
			return err
		}},
		{
			name: "UDP connect, no route", listen: none, flags: unix.CLONE_NEWNET, transport: udp,
			err: event.Errno(unix.ENETUNREACH),
			do: func(peer netip.AddrPort) error {
				_, err := dial(peer, unix.SOCK_DGRAM, 0)
				return err
			},
		},
		{name: "UDP datagrams", listen: none, transport: udp, do: func(peer netip.AddrPort) error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			for range 3 {
				to := &unix.SockaddrInet4{Addr: peer.Addr().As4(), Port: int(peer.Port())}
				if err := unix.Sendto(fd, []byte("x"), 0, to); err != nil {
					return err
				}
			}
			return nil
		}},
		{
			name: "UDP datagrams of two sockets", listen: none, transport: udp, connects: 2,
			do: func(peer netip.AddrPort) error {
				for range 2 {
					fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
					if err != nil {
						return err
					}
					to := &unix.SockaddrInet6{Addr: peer.Addr().As16(), Port: int(peer.Port())}
					if err := unix.Sendto(fd, []byte("x"), 0, to); err != nil {
						return err
					}
				}
				return nil
			},
		},
		{
			name: "32-bit UDP connect", listen: none, transport: udp,
			do: func(peer netip.AddrPort) error { return run32(connectCode32(compatConnect, peer)) },
		},
		{
			name: "refused by seccomp", listen: "127.0.0.1:0", transport: tcp, err: event.Errno(unix.EPERM), claimed: true,
			do: func(peer netip.AddrPort) error {
				if err := refuseConnects(); err != nil {
					return err
				}
				_, err := dial(peer, unix.SOCK_STREAM, 0)
				return err
			},
		},
	}
	if event.CompatABI() == event.ABII386 {
		cases = append(cases, networkCase{
			name: "32-bit UDP connect by socketcall", listen: none, transport: udp,
			do: func(peer netip.AddrPort) error { return run32(connectCode32(socketcall32, peer)) },
		})
	}
	return cases
}

// socketcall32 is the number of the one call that does everything with sockets. Of i386 alone.
const socketcall32 = 102

// connectCode32 makes a UDP socket and connects it with connect, or with the socketcall of i386.
func connectCode32(number uint32, peer netip.AddrPort) (*code32, []byte) {
	var c code32
	c.call(compatSocket, unix.AF_INET, unix.SOCK_DGRAM, 0)
	c.keep(code32Data) // the first argument of socketcall
	if number == socketcall32 {
		c.call(number, 3, code32Data) // SYS_CONNECT
	} else {
		c.put(1, code32Data+12)
		c.put(2, 16)
		c.put(6, number)
		c.fetch(code32Data)
		c.trap()
	}
	c.exit()
	data := binary.LittleEndian.AppendUint32(nil, 0)
	data = binary.LittleEndian.AppendUint32(data, code32Data+12)
	data = binary.LittleEndian.AppendUint32(data, 16)
	data = binary.LittleEndian.AppendUint16(data, unix.AF_INET)
	data = binary.BigEndian.AppendUint16(data, peer.Port())
	data = append(data, peer.Addr().AsSlice()...)
	return &c, append(data, make([]byte, 8)...)
}

// dial6 connects an IPv6 socket, to an address that may be IPv4, sends and receives.
func dial6(peer netip.AddrPort, send, receive int) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet6{Addr: peer.Addr().As16(), Port: int(peer.Port())}); err != nil {
		return err
	}
	return exchange(fd, send, receive, true)
}

// usedPort connects twice from one local port to one peer: the second time the kernel finds out
// after it has chosen the state, and puts no error into the socket.
func usedPort(second int, peer netip.AddrPort) error {
	first, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Addr: peer.Addr().As4(), Port: int(peer.Port())}
	for _, fd := range []int{first, second} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if err := unix.Bind(first, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	bound, err := unix.Getsockname(first)
	if err != nil {
		return err
	}
	if err := unix.Bind(second, bound); err != nil {
		return err
	}
	if err := unix.Connect(first, to); err != nil {
		return fmt.Errorf("first connect: %s", err.Error())
	}
	return unix.Connect(second, to)
}

// refuseConnects makes connect(2) of this thread fail with EPERM, as agents' own sandboxes do.
func refuseConnects() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_CONNECT},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

// helperReach does one case of networkCases: its name, and the peer.
func helperReach(args []string) (string, error) {
	for _, c := range networkCases() {
		if c.name != args[0] {
			continue
		}
		peer, err := netip.ParseAddrPort(args[1])
		if err != nil {
			return "", err
		}
		err = c.do(peer)
		if errno := errnoOf(err); err != nil && event.Errno(errno) != c.err || err == nil && c.err != 0 {
			return "", fmt.Errorf("%s: got error %w, want number %d", c.name, err, c.err)
		}
		return "", nil
	}
	return "", fmt.Errorf("no case %q", args[0])
}

// listenFor starts the case's server, or finds a port that nobody listens on, and returns the peer.
func (c *networkCase) listenFor(t *testing.T) (netip.AddrPort, <-chan error) {
	t.Helper()
	served := make(chan error, 1)
	if c.listen == none {
		served <- nil
		return unusedPort(t), served
	}
	listener, err := net.Listen("tcp", c.listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- nil // the case does not connect
			return
		}
		defer conn.Close()
		if c.server != nil {
			err = c.server(conn)
		}
		served <- err
	}()
	return netip.MustParseAddrPort(listener.Addr().String()), served
}

// unusedPort is a port of the loopback that is bound, so that nobody else takes it, and refuses.
func unusedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*unix.SockaddrInet4).Port
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
}

// connectOf and flowOf are a record's payload, nil when it is about something else.
func connectOf(r *Record) *event.NetworkConnect {
	connect, _ := r.Payload.(*event.NetworkConnect)
	return connect
}

func flowOf(r *Record) *event.NetworkFlow {
	flow, _ := r.Payload.(*event.NetworkFlow)
	return flow
}

func TestKernelNetwork(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for _, c := range networkCases() {
		t.Run(c.name, func(t *testing.T) {
			if c.claimed && w.tracer.Plan() == PlanTrampoline {
				t.Skip("a call that seccomp refuses never comes to the function that does its work")
			}
			peer, served := c.listenFor(t)
			helper := w.run(helperRun{action: "reach", args: []string{c.name, peer.String()}, flags: c.flags})
			c.check(t, w, helper.pid, peer)
			if c.err == 0 {
				if err := <-served; err != nil {
					t.Errorf("serving: %v", err)
				}
			}
		})
	}
}

// check holds the helper's network events against the case.
func (c *networkCase) check(t *testing.T, w *watch, pid uint32, peer netip.AddrPort) {
	t.Helper()
	want := max(c.connects, 1)
	connects := w.await(want, func(r *Record) bool {
		got := connectOf(r)
		return got != nil && r.Task.PID == pid && got.Error == c.err
	})
	if len(connects) != want {
		t.Fatalf("%d connects, want %d: %s", len(connects), want, w.networkOf(pid))
	}
	for _, r := range connects {
		got := connectOf(r)
		if got.Transport != c.transport || got.Peer != peer || got.Claimed != c.claimed || got.Abandoned {
			t.Errorf("got %s, want %s to %s", describe(got), c.transport, peer)
		}
		if c.transport == tcp && c.err == 0 && (got.Latency <= 0 || got.Latency > 5*time.Second || !got.Local.IsValid()) {
			t.Errorf("got latency %v and local end %v", got.Latency, got.Local)
		}
	}
	if c.flow == nil {
		return
	}
	flows := w.await(1, func(r *Record) bool { return flowOf(r) != nil && r.Task.PID == pid && !flowOf(r).Inbound })
	if len(flows) != 1 {
		t.Fatalf("%d flows, want 1: %s", len(flows), w.networkOf(pid))
	}
	flow := flowOf(flows[0])
	if flow.Sent != c.flow[0] || flow.Received != c.flow[1] || flow.Peer != peer || flow.Duration <= 0 {
		t.Errorf("got flow %s, want %d sent and %d received", describe(flow), c.flow[0], c.flow[1])
	}
	if flows[0].Sandbox != w.id {
		t.Errorf("got sandbox %d, want %d", flows[0].Sandbox, w.id)
	}
}

// networkOf describes the network events of a process.
func (w *watch) networkOf(pid uint32) string {
	text := ""
	for _, r := range w.seen(func(r *Record) bool { return r.Task.PID == pid && (connectOf(r) != nil || flowOf(r) != nil) }) {
		text += "\n" + describe(r.Payload)
	}
	return text
}

func describe(payload any) string {
	text, err := json.Marshal(payload)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%T %s", payload, text)
}

func TestKernelNetworkOutside(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	c := networkCases()[0]
	for _, outside := range []bool{true, false} {
		peer, served := c.listenFor(t)
		helper := w.run(helperRun{action: "reach", args: []string{c.name, peer.String()}, outside: outside})
		if err := <-served; err != nil {
			t.Error(err)
		}
		want := 0
		if !outside {
			want = 2 // a connect and a flow
		}
		got := w.await(want, func(r *Record) bool {
			return r.Task.PID == helper.pid && (connectOf(r) != nil || flowOf(r) != nil)
		})
		if len(got) != want {
			t.Errorf("outside %v: %d network records, want %d", outside, len(got), want)
		}
	}
}

// helperGiveUp starts a connect that cannot finish, because the peer's queue is full, and closes it.
func helperGiveUp(args []string) (string, error) {
	peer, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return "", err
	}
	fd, err := dial(peer, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != unix.EINPROGRESS {
		return "", fmt.Errorf("connecting: got %w, want EINPROGRESS", err)
	}
	time.Sleep(50 * time.Millisecond)
	return "", unix.Close(fd)
}

func TestKernelNetworkAbandoned(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*unix.SockaddrInet4).Port))
	// A queue of length 0 has room for one connection that is never accepted.
	filler, err := dial(peer, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(filler)
	helper := w.run(helperRun{action: "give up", args: []string{peer.String()}})
	got := w.await(1, func(r *Record) bool { return connectOf(r) != nil && r.Task.PID == helper.pid })
	if len(got) != 1 {
		t.Fatalf("%d connects, want 1: %s", len(got), w.networkOf(helper.pid))
	}
	if connect := connectOf(got[0]); !connect.Abandoned || connect.Error != 0 || connect.Peer != peer || connect.Transport != tcp {
		t.Errorf("got %s, want abandoned", describe(connect))
	}
}

// TestKernelNetworkDenied has another cgroup program refuse: the address is still the kernel's word.
func TestKernelNetworkDenied(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	deny, err := link.AttachCgroup(link.CgroupOptions{
		Path: w.cgroup, Attach: ebpf.AttachCGroupInet4Connect, Program: program,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer deny.Close()
	peer := unusedPort(t)
	helper := w.run(helperRun{action: "denied", args: []string{peer.String()}})
	for i, transport := range []event.Transport{tcp, udp} {
		c := networkCase{transport: transport, err: event.Errno(unix.EPERM)}
		got := w.await(1, func(r *Record) bool {
			connect := connectOf(r)
			return connect != nil && r.Task.PID == helper.pid && connect.Transport == transport
		})
		if len(got) != 1 {
			t.Fatalf("%d: %d connects of %s, want 1", i, len(got), transport)
		}
		if connect := connectOf(got[0]); connect.Error != c.err || connect.Peer != peer || connect.Claimed {
			t.Errorf("got %s, want EPERM to %s, not claimed", describe(connect), peer)
		}
	}
}

func helperDenied(args []string) (string, error) {
	peer, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return "", err
	}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		if _, err := dial(peer, kind, 0); err != unix.EPERM {
			return "", fmt.Errorf("connecting: got %w, want EPERM", err)
		}
	}
	return "", nil
}

// TestKernelNetworkNamespace reaches a server of the helper's own in a network namespace of its own.
func TestKernelNetworkNamespace(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	helper := w.run(helperRun{action: "namespace", flags: unix.CLONE_NEWNET})
	peer := netip.MustParseAddrPort(helper.said)
	c := networkCase{transport: tcp, flow: &[2]uint64{11, 0}}
	c.check(t, w, helper.pid, peer)
}

func helperNamespace([]string) (string, error) {
	if err := loopbackUp(); err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
		served <- err
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return "", err
	}
	if _, err := conn.Write(make([]byte, 11)); err != nil {
		return "", err
	}
	if err := conn.Close(); err != nil {
		return "", err
	}
	return listener.Addr().String(), <-served
}

// loopbackUp switches on the loopback of the current network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// TestKernelNetworkMissed takes away the program that tells of a connection's end: the end is told all the same.
func TestKernelNetworkMissed(t *testing.T) {
	requireKernel(t)
	w := startWatchOwn(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	pid := make(chan uint32, 1)
	go func() {
		c := networkCases()[1] // closed there first
		pid <- w.run(helperRun{action: "reach", args: []string{c.name, listener.Addr().String()}}).pid
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	peer := netip.MustParseAddrPort(listener.Addr().String())
	w.await(1, func(r *Record) bool { return connectOf(r) != nil && connectOf(r).Peer == peer })
	w.detach("network_on_set_state")
	if err := serve(1, 2, true)(conn); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	helper := <-pid
	flows := w.await(1, func(r *Record) bool { return flowOf(r) != nil && r.Task.PID == helper })
	if len(flows) != 1 {
		t.Fatalf("%d flows, want 1: %s", len(flows), w.networkOf(helper))
	}
	if flow := flowOf(flows[0]); flow.Sent != 1 || flow.Received != 2 {
		t.Errorf("got %s, want 1 sent and 2 received", describe(flow))
	}
}

// detach takes one program off its hook.
func (w *watch) detach(name string) {
	w.t.Helper()
	for i := range w.tracer.probes {
		p := &w.tracer.probes[i]
		program := p.collection.Programs[name]
		if program == nil {
			continue
		}
		info, err := program.Info()
		if err != nil {
			w.t.Fatal(err)
		}
		id, _ := info.ID()
		for j, l := range p.links {
			if linked, err := l.Info(); err == nil && linked.Program == id {
				if err := l.Close(); err != nil {
					w.t.Fatal(err)
				}
				p.links = slices.Delete(p.links, j, j+1)
				return
			}
		}
	}
	w.t.Fatalf("program %s is not attached", name)
}

// TestKernelNetworkMany makes connections from several threads at once: each is told once, with its bytes.
func TestKernelNetworkMany(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	const connections = 500
	helper := w.run(helperRun{action: "many", args: []string{listener.Addr().String(), strconv.Itoa(connections)}})
	flows := w.await(connections, func(r *Record) bool { return flowOf(r) != nil && r.Task.PID == helper.pid })
	connects := w.await(connections, func(r *Record) bool { return connectOf(r) != nil && r.Task.PID == helper.pid })
	if len(flows) != connections || len(connects) != connections {
		t.Errorf("%d connects and %d flows, want %d each", len(connects), len(flows), connections)
	}
	var sum uint64
	for _, r := range flows {
		sum += flowOf(r).Sent
	}
	if want := uint64(connections * (connections - 1) / 2); sum != want {
		t.Errorf("%d bytes in all flows, want %d", sum, want)
	}
}

func helperMany(args []string) (string, error) {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	failed := make(chan error, n)
	slots := make(chan struct{}, 8)
	for i := range n {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			conn, err := net.Dial("tcp", args[0])
			if err == nil {
				_, err = conn.Write(make([]byte, i))
				_ = conn.Close()
			}
			failed <- err
		}()
	}
	for range n {
		if err := <-failed; err != nil {
			return "", err
		}
	}
	return "", nil
}

func TestAddrPort(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:10.1.2.3").As16()
	if got, want := addrPort(mapped, 80), netip.MustParseAddrPort("10.1.2.3:80"); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	v6 := netip.MustParseAddr("2001:db8::1").As16()
	if got, want := addrPort(v6, 443), netip.MustParseAddrPort("[2001:db8::1]:443"); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := localAddrPort([16]byte{}, 0); got.IsValid() {
		t.Errorf("the local end of an unbound socket is %v, want none", got)
	}
}

func TestDecodeNetwork(t *testing.T) {
	peer := networkEndpoint{Address: netip.MustParseAddr("::ffff:192.0.2.1").As16(), Port: 443}
	connect := networkConnect{Peer: peer, Protocol: unix.IPPROTO_TCP, Error: uint16(unix.ECONNREFUSED), Latency: 1000}
	r := Record{memory: &memory{}}
	if err := decodeNetwork(&r, networkKindConnect, recordBytes(t, &connect, nil)); err != nil {
		t.Fatal(err)
	}
	want := event.NetworkConnect{
		Transport: tcp, Peer: netip.MustParseAddrPort("192.0.2.1:443"),
		Error: event.Errno(unix.ECONNREFUSED), Latency: 1000,
	}
	if got := connectOf(&r); *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	flow := networkFlow{Peer: peer, Protocol: unix.IPPROTO_TCP, Sent: 1, Received: 1 << 63}
	if err := decodeNetwork(&r, networkKindFlow, recordBytes(t, &flow, nil)); err != nil {
		t.Fatal(err)
	}
	if got := flowOf(&r); got.Sent != 1 || got.Received != 1<<63 {
		t.Errorf("got %+v", got)
	}
	for name, bad := range map[string]struct {
		kind uint16
		data []byte
	}{
		"short connect":          {networkKindConnect, recordBytes(t, &connect, nil)[:100]},
		"short flow":             {networkKindFlow, recordBytes(t, &flow, nil)[:100]},
		"another kind":           {99, recordBytes(t, &flow, nil)},
		"connect of no protocol": {networkKindConnect, recordBytes(t, &networkConnect{}, nil)},
		"flow of no protocol":    {networkKindFlow, recordBytes(t, &networkFlow{}, nil)},
	} {
		if err := decodeNetwork(&Record{memory: &memory{}}, bad.kind, bad.data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzDecodeNetwork(f *testing.F) {
	f.Add(uint16(networkKindConnect), recordBytes(f, &networkConnect{Protocol: unix.IPPROTO_UDP}, nil))
	f.Add(uint16(networkKindFlow), recordBytes(f, &networkFlow{Protocol: unix.IPPROTO_TCP}, nil))
	f.Add(uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		r := Record{memory: &memory{}}
		if err := decodeNetwork(&r, kind, data); err != nil {
			return
		}
		payload, ok := r.Payload.(event.Payload)
		if !ok {
			t.Fatalf("no error, and no payload: %+v", r.Payload)
		}
		payload.AppendBody(payload.AppendBody(nil))
		payload.AppendAttributes(nil)
	})
}
