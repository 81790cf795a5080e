// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// socketCase is one use of a socket: what the helper does in a network namespace of its own, and the event that
// must come of it.
type socketCase struct {
	name string
	do   func(dir string) error
	want event.NetworkSocket
	// bound says that the event must have a local end, from that it must have a peer.
	bound, from bool
}

// bindTo makes a socket and binds it.
func bindTo(family, kind int, to unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(family, kind, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %s", err.Error())
	}
	return fd, unix.Bind(fd, to)
}

// bindOnly is bindTo for a case.
func bindOnly(family, kind int, to unix.Sockaddr) func(string) error {
	return func(string) error {
		_, err := bindTo(family, kind, to)
		return err
	}
}

func makeSocket(family, kind, protocol int) func(string) error {
	return func(string) error {
		_, err := unix.Socket(family, kind, protocol)
		return err
	}
}

// connectUnix listens on a unix socket, connects to it and accepts.
func connectUnix(name string) error {
	server, err := bindTo(unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: name})
	if err != nil {
		return fmt.Errorf("bind: %s", err.Error())
	}
	if err := unix.Listen(server, 3); err != nil {
		return fmt.Errorf("listen: %s", err.Error())
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return fmt.Errorf("connect: %s", err.Error())
	}
	_, _, err = unix.Accept(server)
	return err
}

func socketCases() []socketCase {
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 4242}
	return []socketCase{
		{
			name: "raw", do: makeSocket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
			want: event.NetworkSocket{Operation: event.SocketCreate, Family: "inet", Type: "raw", Protocol: unix.IPPROTO_ICMP},
		},
		{
			name: "packet", do: makeSocket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0x0800),
			want: event.NetworkSocket{Operation: event.SocketCreate, Family: "packet", Type: "dgram", Protocol: 0x0800},
		},
		{
			name: "netlink", do: makeSocket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
			want: event.NetworkSocket{Operation: event.SocketCreate, Family: "netlink", Type: "raw"},
		},
		{
			name: "no such family", do: makeSocket(44, unix.SOCK_STREAM, 0),
			want: event.NetworkSocket{
				Operation: event.SocketCreate, Family: "xdp", Type: "stream", Error: event.Errno(unix.ESOCKTNOSUPPORT),
			},
		},
		{
			name: "raw refused", want: event.NetworkSocket{
				Operation: event.SocketCreate, Family: "inet", Type: "raw", Protocol: unix.IPPROTO_ICMP, Error: event.Errno(unix.EPERM),
			},
			do: func(string) error {
				runtime.LockOSThread()
				if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
					return fmt.Errorf("setresuid: %s", errno.Error())
				}
				_, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
				return err
			},
		},
		{
			name: "bind", do: bindOnly(unix.AF_INET, unix.SOCK_STREAM, loopback),
			want: event.NetworkSocket{
				Operation: event.SocketBind, Family: "inet", Type: "stream", Protocol: unix.IPPROTO_TCP,
				Local: netip.MustParseAddrPort("127.0.0.1:4242"),
			},
		},
		{
			name: "bind to any address and port", bound: true, do: bindOnly(unix.AF_INET6, unix.SOCK_DGRAM, &unix.SockaddrInet6{}),
			want: event.NetworkSocket{Operation: event.SocketBind, Family: "inet6", Type: "dgram", Protocol: unix.IPPROTO_UDP},
		},
		{
			name: "bind refused", do: bindOnly(unix.AF_INET, unix.SOCK_STREAM, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}, Port: 80}),
			want: event.NetworkSocket{
				Operation: event.SocketBind, Family: "inet", Type: "stream", Protocol: unix.IPPROTO_TCP, Claimed: true,
				Local: netip.MustParseAddrPort("192.0.2.1:80"), Error: event.Errno(unix.EADDRNOTAVAIL),
			},
		},
		{
			name: "listen", want: event.NetworkSocket{
				Operation: event.SocketListen, Family: "inet", Type: "stream", Protocol: unix.IPPROTO_TCP,
				Local: netip.MustParseAddrPort("127.0.0.1:4242"), Backlog: 7,
			},
			do: func(string) error {
				fd, err := bindTo(unix.AF_INET, unix.SOCK_STREAM, loopback)
				if err != nil {
					return err
				}
				return unix.Listen(fd, 7)
			},
		},
		{
			name: "accept", from: true, want: event.NetworkSocket{
				Operation: event.SocketAccept, Family: "inet", Type: "stream", Protocol: unix.IPPROTO_TCP,
				Local: netip.MustParseAddrPort("127.0.0.1:4242"),
			},
			do: func(string) error {
				listener, err := net.Listen("tcp", "127.0.0.1:4242")
				if err != nil {
					return err
				}
				return exchangeWith(listener)
			},
		},
		{
			name: "unix bind", do: func(dir string) error { return connectUnix(dir + "/socket") },
			want: event.NetworkSocket{Operation: event.SocketBind, Family: "unix", Type: "stream", Name: "@dir/socket"},
		},
		{
			name: "unix connect", do: func(dir string) error { return connectUnix(dir + "/socket") },
			want: event.NetworkSocket{Operation: event.SocketConnect, Family: "unix", Type: "stream", Name: "@dir/socket", PeerPID: 1},
		},
		{
			name: "abstract unix connect", do: func(string) error { return connectUnix("@watchglass test") },
			want: event.NetworkSocket{Operation: event.SocketConnect, Family: "unix", Type: "stream", Name: "@watchglass test", PeerPID: 1},
		},
		{
			name: "unix connect to nobody", want: event.NetworkSocket{
				Operation: event.SocketConnect, Family: "unix", Type: "stream", Name: "@dir/nobody", Claimed: true, Error: event.Errno(unix.ENOENT),
			},
			do: func(dir string) error {
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				return unix.Connect(fd, &unix.SockaddrUnix{Name: dir + "/nobody"})
			},
		},
	}
}

// exchangeWith connects to a listener, accepts, and closes both ends.
func exchangeWith(listener net.Listener) error {
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.Copy(conn, io.LimitReader(conn, 5))
			conn.Close()
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return err
	}
	conn.Close()
	return <-done
}

// helperSocket does one case of socketCases: its name, and a directory.
func helperSocket(args []string) (string, error) {
	if err := loopbackUp(); err != nil {
		return "", err
	}
	for _, c := range socketCases() {
		if c.name != args[0] {
			continue
		}
		err := c.do(args[1])
		if errno := errnoOf(err); err != nil && event.Errno(errno) != c.want.Error || err == nil && c.want.Error != 0 {
			return "", fmt.Errorf("%s: got error %w, want number %d", c.name, err, c.want.Error)
		}
		time.Sleep(50 * time.Millisecond) // the other side's end takes a moment
		return "", nil
	}
	return "", fmt.Errorf("no case %q", args[0])
}

func socketOf(r *Record) *event.NetworkSocket {
	socket, _ := r.Payload.(*event.NetworkSocket)
	return socket
}

func TestKernelSocket(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for _, c := range socketCases() {
		t.Run(c.name, func(t *testing.T) {
			dir := makeFiles(t)
			helper := w.run(helperRun{action: "socket", args: []string{c.name, dir}, flags: unix.CLONE_NEWNET})
			want := c.want
			if rest, found := bytes.CutPrefix([]byte(want.Name), []byte("@dir")); found {
				want.Name = dir + string(rest)
			}
			if want.PeerPID != 0 {
				want.PeerPID = helper.pid
			}
			found := w.await(1, func(r *Record) bool {
				s := socketOf(r)
				return s != nil && r.Task.PID == helper.pid && s.Operation == want.Operation && s.Family == want.Family
			})
			if len(found) != 1 {
				t.Fatalf("%d events, want 1", len(found))
			}
			got := *socketOf(found[0])
			if got.Local.IsValid() != (c.bound || want.Local.IsValid()) || got.Peer.IsValid() != c.from {
				t.Errorf("got ends %s and %s", got.Local, got.Peer)
			}
			if c.bound {
				got.Local = netip.AddrPort{}
			}
			got.Peer = netip.AddrPort{}
			if got != want {
				t.Errorf("got  %+v,\nwant %+v", got, want)
			}
		})
	}
	t.Run("outside", func(t *testing.T) {
		outside := w.run(helperRun{action: "socket", args: []string{"raw", makeFiles(t)}, flags: unix.CLONE_NEWNET, outside: true})
		if got := w.seen(func(r *Record) bool { return r.Task.PID == outside.pid }); len(got) != 0 {
			t.Errorf("saw %d records of a process outside of the sandbox, want none", len(got))
		}
	})
}

// TestKernelFlowInbound holds the two flows of one connection inside of a sandbox against each other.
func TestKernelFlowInbound(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	helper := w.run(helperRun{action: "socket", args: []string{"accept", makeFiles(t)}, flags: unix.CLONE_NEWNET})
	flows := w.await(2, func(r *Record) bool {
		_, ok := r.Payload.(*event.NetworkFlow)
		return ok && r.Task.PID == helper.pid
	})
	if len(flows) != 2 {
		t.Fatalf("%d flows, want 2", len(flows))
	}
	ends := map[string]int{}
	for _, r := range flows {
		flow := r.Payload.(*event.NetworkFlow)
		ends[fmt.Sprintf("inbound %v, %s first, %d/%d bytes", flow.Inbound, flow.End, flow.Sent, flow.Received)]++
		if flow.SentPackets < 3 || flow.ReceivedPackets < 3 || flow.RTT <= 0 {
			t.Errorf("got %d and %d packets, round trip %s", flow.SentPackets, flow.ReceivedPackets, flow.RTT)
		}
	}
	for _, want := range []string{"inbound true, local first, 5/5 bytes", "inbound false, peer first, 5/5 bytes"} {
		if ends[want] != 1 {
			t.Errorf("no flow %q among %v", want, ends)
		}
	}
}

// helperSay connects to an address and says a text, in pieces of a size.
func helperSay(args []string) (string, error) {
	var size int
	if _, err := fmt.Sscan(args[2], &size); err != nil {
		return "", err
	}
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		return "", err
	}
	text := []byte(args[1])
	for len(text) > 0 {
		n := min(size, len(text))
		if _, err := conn.Write(text[:n]); err != nil {
			return "", err
		}
		text = text[n:]
	}
	_, _ = conn.Read(make([]byte, 1))
	return "", conn.Close()
}

func isStreamOf(pid uint32) func(*Record) bool {
	return func(r *Record) bool {
		_, ok := r.Payload.(*Stream)
		return ok && r.Task.PID == pid
	}
}

// bytesOf is how many bytes streams show.
func bytesOf(streams []*Record) (n int) {
	for _, r := range streams {
		n += len(r.Payload.(*Stream).Bytes)
	}
	return n
}

// TestKernelStream has the first bytes of connections shown, whole, whatever the segments.
func TestKernelStream(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	text := bytes.Repeat([]byte("0123456789abcdef"), 400) // more than is shown
	text[0] = 'G'                                         // as HTTP begins, of whose head there is no end
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.CopyN(io.Discard, conn, int64(len(text)))
				conn.Close()
			}()
		}
	}()
	for _, size := range []int{1, 7, 1000, len(text)} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			run := helperRun{action: "say", args: []string{listener.Addr().String(), string(text), fmt.Sprint(size)}}
			helper := w.run(run)
			shown := make([]byte, 4096)
			known := 0
			for _, r := range w.awaitUntil(isStreamOf(helper.pid), func(streams []*Record) bool {
				return bytesOf(streams) >= len(shown)
			}) {
				s := r.Payload.(*Stream)
				if !s.Sent || s.Peer.String() != listener.Addr().String() {
					t.Fatalf("got %+v", s.Ends)
				}
				known += copy(shown[s.Offset:], s.Bytes)
			}
			if known < len(shown) || !bytes.Equal(shown, text[:len(shown)]) {
				t.Errorf("%d bytes are shown, want the first %d", known, len(shown))
			}
		})
	}
	outside := w.run(helperRun{action: "say", args: []string{listener.Addr().String(), string(text), "1000"}, outside: true})
	if got := w.seen(func(r *Record) bool { return r.Task.PID == outside.pid }); len(got) != 0 {
		t.Errorf("saw %d records of a process outside of the sandbox, want none", len(got))
	}
}
