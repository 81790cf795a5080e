// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// ringSocketCase is what a helper does with sockets through a ring, in a network namespace of its own, and what must be
// told of it, and nothing else: see ringSocketText. @ stands for its directory.
type ringSocketCase struct {
	name string
	do   func(s *ringSockets) error
	want []string
	// since is as in a ringCase.
	since int
}

// ringSockets is a ring that does things with sockets, in a way of ringModes.
type ringSockets struct {
	*ring
	dir  string
	mode uint8
}

// address is an address as an entry takes it, and its size.
func (s *ringSockets) address(to unix.Sockaddr) (at uint64, size uint64) {
	switch to := to.(type) {
	case *unix.SockaddrInet4:
		raw := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr, Port: uint16(to.Port)<<8 | uint16(to.Port)>>8}
		return s.keep(unsafe.Pointer(raw), raw), unix.SizeofSockaddrInet4
	case *unix.SockaddrUnix:
		raw := &unix.RawSockaddrUnix{Family: unix.AF_UNIX}
		for i := range len(to.Name) {
			raw.Path[i] = int8(to.Name[i])
		}
		return s.keep(unsafe.Pointer(raw), raw), uint64(2 + len(to.Name) + 1)
	default:
		panic(fmt.Sprintf("no address of type %T", to))
	}
}

// op does an operation on a descriptor.
func (s *ringSockets) op(op uint8, fd int, more func(*ringEntry)) (int, error) {
	entry := ringEntry{Op: op, Flags: s.mode, FD: int32(fd)}
	if more != nil {
		more(&entry)
	}
	return s.do(entry)
}

// named does an operation that names an address.
func (s *ringSockets) named(op uint8, fd int, to unix.Sockaddr, flags uint8) error {
	_, err := s.op(op, fd, func(e *ringEntry) {
		e.Flags |= flags
		e.Address, e.Offset = s.address(to)
	})
	return err
}

// say sends or receives five bytes.
func (s *ringSockets) say(op uint8, fd int) error {
	text := []byte("hello")
	n, err := s.op(op, fd, func(e *ringEntry) { e.Address, e.Len = s.keep(unsafe.Pointer(&text[0]), text), 5 })
	return wantMoved(n, 5, err)
}

// listenOn makes a listening socket that was made by system calls.
func listenOn(port int) (int, error) {
	fd, err := bindTo(unix.AF_INET, unix.SOCK_STREAM, loopbackPort(port))
	if err != nil {
		return -1, err
	}
	return fd, unix.Listen(fd, 7)
}

func loopbackPort(port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}
}

// unreachable is an address to which there is no way in a network namespace that has loopback alone.
func unreachable() *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}, Port: 9}
}

// wantErrno turns the error that an operation must have into none.
func wantErrno(err error, want unix.Errno) error {
	if errno := errnoOf(err); errno != want {
		return fmt.Errorf("got error %w, want %s", err, want.Error())
	}
	return nil
}

func ringSocketCases() []ringSocketCase {
	const listener = "bind inet stream 127.0.0.1:4242"
	return []ringSocketCase{
		{name: "make", do: ringMake, want: []string{"ring socket packet dgram"}},
		{name: "make, refused", do: ringMakeRefused, want: []string{"ring socket xdp stream errno_94"}},
		{
			name: "bind and listen", do: ringBindAndListen, since: 11,
			want: []string{"ring bind inet stream 127.0.0.1:4242", "ring listen inet stream 127.0.0.1:4242 backlog 7"},
		},
		{
			name: "bind, refused", do: ringBindRefused, since: 11,
			want: []string{"ring bind inet stream 192.0.2.1:9 claimed EADDRNOTAVAIL"},
		},
		{
			name: "connect, accept and talk", do: ringTalk, want: []string{
				listener, "listen inet stream 127.0.0.1:4242 backlog 7", "ring connect tcp 127.0.0.1:4242", "ring accept inet stream 127.0.0.1:4242",
				"ring flow tcp 127.0.0.1:4242 5/5", "ring flow tcp inbound 5/5",
			},
		},
		{
			name: "talk alone", do: ringTalkAlone, want: []string{
				listener, "listen inet stream 127.0.0.1:4242 backlog 7", "connect tcp 127.0.0.1:4242", "accept inet stream 127.0.0.1:4242",
				"ring flow tcp 127.0.0.1:4242 5/0", "flow tcp inbound 0/5",
			},
		},
		{name: "connect, refused", do: ringConnectRefused, want: []string{"ring connect tcp 127.0.0.1:4243 ECONNREFUSED"}},
		{name: "connect to nowhere", do: ringConnectNowhere, want: []string{"ring connect tcp 192.0.2.1:9 ENETUNREACH"}},
		{
			name: "connect and send by UDP", do: ringConnectUDP,
			want: []string{"ring connect udp 127.0.0.1:4244", "ring flow udp 127.0.0.1:4244 5/0"},
		},
		{
			name: "send by UDP alone", do: ringSendUDP,
			want: []string{"connect udp 127.0.0.1:4244", "ring flow udp 127.0.0.1:4244 5/0"},
		},
		{
			name: "send to an address", do: ringSendTo,
			want: []string{"ring connect udp 127.0.0.1:4244", "ring flow udp 127.0.0.1:4244 5/0"},
		},
		{name: "connect by UDP to nowhere", do: ringConnectUDPNowhere, want: []string{"ring connect udp 192.0.2.1:9 ENETUNREACH"}},
		{
			name: "unix", do: ringUnix,
			want: []string{"bind unix stream @/socket", "listen unix stream @/socket backlog 3", "ring connect unix stream @/socket peer", "ring accept unix stream @/socket peer"},
		},
		{name: "unix, nobody there", do: ringUnixNobody, want: []string{"ring connect unix stream @/nobody claimed ENOENT"}},
		{
			name: "accept again and again", do: ringAcceptMany, want: []string{
				listener, "listen inet stream 127.0.0.1:4242 backlog 7", "connect tcp 127.0.0.1:4242", "connect tcp 127.0.0.1:4242",
				"ring accept inet stream 127.0.0.1:4242", "ring accept inet stream 127.0.0.1:4242",
				"flow tcp 127.0.0.1:4242 0/0", "flow tcp 127.0.0.1:4242 0/0", "ring flow tcp inbound 0/0", "ring flow tcp inbound 0/0",
			},
		},
		{
			name: "accept without a descriptor", do: ringAcceptDirect, want: []string{
				listener, "listen inet stream 127.0.0.1:4242 backlog 7", "connect tcp 127.0.0.1:4242",
				"ring accept inet stream 127.0.0.1:4242", "flow tcp 127.0.0.1:4242 0/0", "ring flow tcp inbound 0/0",
			},
		},
		{
			name: "accept without a word", do: ringAcceptSilent, want: []string{
				listener, "listen inet stream 127.0.0.1:4242 backlog 7", "connect tcp 127.0.0.1:4242",
				"ring accept inet stream 127.0.0.1:4242 unfinished", "flow tcp 127.0.0.1:4242 0/0",
			},
		},
		{
			name: "connect by UDP without a word", do: ringConnectSilent,
			want: []string{"ring connect inet dgram 127.0.0.1:4244 claimed unfinished"},
		},
		{
			// What was noted of the first must not be taken for the others.
			name: "a ring's connects before others", do: ringConnectsBefore, want: []string{
				"ring connect udp 127.0.0.1:4244", "ring connect tcp 127.0.0.1:4243 ECONNREFUSED", "connect unix stream @/nobody claimed ENOENT", "connect udp 127.0.0.1:4245",
			},
		},
	}
}

func ringMake(s *ringSockets) error {
	_, err := s.op(ringOpSocket, unix.AF_PACKET, func(e *ringEntry) { e.Offset, e.Len = unix.SOCK_DGRAM, 0 })
	return err
}

func ringMakeRefused(s *ringSockets) error {
	_, err := s.op(ringOpSocket, unix.AF_XDP, func(e *ringEntry) { e.Offset = unix.SOCK_STREAM })
	return wantErrno(err, unix.ESOCKTNOSUPPORT)
}

func ringBindAndListen(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := s.named(ringOpBind, fd, loopbackPort(4242), 0); err != nil {
		return err
	}
	_, err = s.op(ringOpListen, fd, func(e *ringEntry) { e.Len = 7 })
	return err
}

func ringBindRefused(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	err = s.named(ringOpBind, fd, unreachable(), 0)
	if errnoOf(err) == unix.EINVAL {
		return err
	}
	return wantErrno(err, unix.EADDRNOTAVAIL)
}

func ringTalk(s *ringSockets) error {
	listener, err := listenOn(4242)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := s.named(ringOpConnect, fd, loopbackPort(4242), 0); err != nil {
		return err
	}
	accepted, err := s.op(ringOpAccept, listener, nil)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		op uint8
		fd int
	}{{ringOpSend, fd}, {ringOpRecv, accepted}, {ringOpSend, accepted}, {ringOpRecv, fd}} {
		if err := s.say(step.op, step.fd); err != nil {
			return err
		}
	}
	return closeEach(fd, accepted)
}

// connectTo connects to a port of loopback by system calls.
func connectTo(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, loopbackPort(port))
}

// ringTalkAlone sends through the ring what was connected and accepted without it.
func ringTalkAlone(s *ringSockets) error {
	listener, err := listenOn(4242)
	if err != nil {
		return err
	}
	fd, err := connectTo(4242)
	if err != nil {
		return err
	}
	accepted, _, err := unix.Accept(listener)
	if err != nil {
		return err
	}
	if err := s.say(ringOpSend, fd); err != nil {
		return err
	}
	n, err := unix.Read(accepted, make([]byte, 5))
	if err := wantMoved(n, 5, err); err != nil {
		return err
	}
	return closeEach(fd, accepted)
}

func closeEach(fds ...int) error {
	for _, fd := range fds {
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return nil
}

func ringConnectRefused(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return wantErrno(s.named(ringOpConnect, fd, loopbackPort(4243), 0), unix.ECONNREFUSED)
}

func ringConnectNowhere(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return wantErrno(s.named(ringOpConnect, fd, unreachable(), 0), unix.ENETUNREACH)
}

func ringConnectUDP(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := s.named(ringOpConnect, fd, loopbackPort(4244), 0); err != nil {
		return err
	}
	return s.say(ringOpSend, fd)
}

func ringSendUDP(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, loopbackPort(4244)); err != nil {
		return err
	}
	return s.say(ringOpSend, fd)
}

func ringSendTo(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	text := []byte("hello")
	to := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: [4]byte{127, 0, 0, 1}, Port: 4244&0xff<<8 | 4244>>8}
	part := &unix.Iovec{Base: &text[0], Len: 5}
	message := &unix.Msghdr{Name: (*byte)(unsafe.Pointer(to)), Namelen: unix.SizeofSockaddrInet4, Iov: part, Iovlen: 1}
	n, err := s.op(ringOpSendMsg, fd, func(e *ringEntry) { e.Address, e.Len = s.keep(unsafe.Pointer(message), message), 1 })
	return wantMoved(n, 5, err)
}

func ringConnectUDPNowhere(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return wantErrno(s.named(ringOpConnect, fd, unreachable(), 0), unix.ENETUNREACH)
}

func ringUnix(s *ringSockets) error {
	name := &unix.SockaddrUnix{Name: s.dir + "/socket"}
	listener, err := bindTo(unix.AF_UNIX, unix.SOCK_STREAM, name)
	if err != nil {
		return err
	}
	if err := unix.Listen(listener, 3); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := s.named(ringOpConnect, fd, name, 0); err != nil {
		return err
	}
	_, err = s.op(ringOpAccept, listener, nil)
	return err
}

func ringUnixNobody(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return wantErrno(s.named(ringOpConnect, fd, &unix.SockaddrUnix{Name: s.dir + "/nobody"}, 0), unix.ENOENT)
}

func ringAcceptMany(s *ringSockets) error {
	listener, err := listenOn(4242)
	if err != nil {
		return err
	}
	entry := ringEntry{Op: ringOpAccept, Flags: s.mode, FD: int32(listener), Priority: ringAcceptMultishot, UserData: 7}
	if err := s.start(entry); err != nil {
		return err
	}
	for range 2 {
		fd, err := connectTo(4242)
		if err != nil {
			return err
		}
		accepted, err := s.await(false)
		if err != nil {
			return err
		}
		if err := closeEach(fd, accepted); err != nil {
			return err
		}
	}
	return nil
}

// ringAcceptDirect accepts into the ring's own table.
func ringAcceptDirect(s *ringSockets) error {
	listener, err := listenOn(4242)
	if err != nil {
		return err
	}
	if err := s.table(4); err != nil {
		return err
	}
	fd, err := connectTo(4242)
	if err != nil {
		return err
	}
	if _, err := s.op(ringOpAccept, listener, func(e *ringEntry) { e.FileIndex = 3 }); err != nil {
		return err
	}
	return unix.Close(fd)
}

func ringAcceptSilent(s *ringSockets) error {
	listener, err := listenOn(4242)
	if err != nil {
		return err
	}
	if _, err := connectTo(4242); err != nil {
		return err
	}
	_, err = s.op(ringOpAccept, listener, func(e *ringEntry) { e.Flags |= ringEntrySkipSuccess })
	return err
}

func ringConnectSilent(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return s.named(ringOpConnect, fd, loopbackPort(4244), ringEntrySkipSuccess)
}

func ringConnectsBefore(s *ringSockets) error {
	if err := ringConnectUDPAlone(s); err != nil {
		return err
	}
	if err := ringConnectRefused(s); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := wantErrno(unix.Connect(fd, &unix.SockaddrUnix{Name: s.dir + "/nobody"}), unix.ENOENT); err != nil {
		return err
	}
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err != nil {
		return err
	}
	return unix.Connect(fd, loopbackPort(4245))
}

func ringConnectUDPAlone(s *ringSockets) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return s.named(ringOpConnect, fd, loopbackPort(4244), 0)
}

// helperRingSocket does one case of ringSocketCases in one of ringModes, in a directory.
func helperRingSocket(args []string) (string, error) {
	mode := ringModes()[args[1]]
	if err := loopbackUp(); err != nil {
		return "", err
	}
	r, err := newRing(mode.setup)
	if err != nil {
		return "no io_uring: " + err.Error(), nil
	}
	defer r.close()
	cases := ringSocketCases()
	c := cases[slices.IndexFunc(cases, func(c ringSocketCase) bool { return c.name == args[0] })]
	err = c.do(&ringSockets{ring: r, dir: args[2], mode: mode.entry})
	if c.since != 0 && errnoOf(err) == unix.EINVAL {
		return notInThisKernel, nil
	}
	if err != nil {
		return "", fmt.Errorf("%s", err.Error()) // not a number that the kernel did not return
	}
	time.Sleep(50 * time.Millisecond) // the other side's end takes a moment
	return "", nil
}

// ringSocketText is what an event of a socket says, "" for other events.
func ringSocketText(r *Record, dir string) string {
	var words []string
	word := func(on bool, text string) {
		if on {
			words = append(words, text)
		}
	}
	switch n := r.Payload.(type) {
	case *event.NetworkConnect:
		word(n.Via == event.ViaURing, "ring")
		words = append(words, "connect", string(n.Transport), n.Peer.String())
		word(n.Claimed, "claimed")
		word(n.Abandoned, "abandoned")
		word(n.Error != 0, n.Error.Name())
	case *event.NetworkFlow:
		word(n.Via == event.ViaURing, "ring")
		words = append(words, "flow", string(n.Transport))
		word(!n.Inbound, n.Peer.String())
		word(n.Inbound, "inbound")
		words = append(words, fmt.Sprintf("%d/%d", n.Sent, n.Received))
	case *event.NetworkSocket:
		word(n.Via == event.ViaURing, "ring")
		words = append(words, string(n.Operation), n.Family, n.Type)
		word(n.Local.IsValid(), n.Local.String())
		word(n.Name != "", strings.Replace(n.Name, dir, "@", 1))
		word(n.PeerPID == r.Task.PID, "peer")
		word(n.Operation == event.SocketListen, "backlog "+strconv.Itoa(int(n.Backlog)))
		word(n.Claimed, "claimed")
		word(n.Unfinished, "unfinished")
		word(n.Error != 0, n.Error.Name())
	}
	return strings.Join(words, " ")
}

// notInThisKernel is what a helper says that did what the kernel does not have.
const notInThisKernel = "not in this kernel"

// requireSince ends the test where the kernel does not have what the helper did, which came with a 6.x.
func requireSince(t *testing.T, said string, since int) {
	t.Helper()
	if said != notInThisKernel {
		return
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	release := unix.ByteSliceToString(name.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil || major > 6 || major == 6 && minor >= since {
		t.Fatalf("kernel %s does not have what came with 6.%d (%v)", release, since, err)
	}
	t.Skipf("came with 6.%d", since)
}

// TestKernelRingSocket: what is done to sockets through a ring is told as if it were done by system calls, and marked.
func TestKernelRingSocket(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for mode := range ringModes() {
		for _, c := range ringSocketCases() {
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				dir := t.TempDir()
				helper := w.run(helperRun{action: "ring socket", args: []string{c.name, mode, dir}, flags: unix.CLONE_NEWNET})
				requireRing(t, helper.said)
				requireSince(t, helper.said, c.since)
				mine := func(r *Record) bool { return r.Task.PID == helper.pid && ringSocketText(r, dir) != "" }
				var got []string
				for _, r := range w.await(len(c.want), mine) {
					got = append(got, ringSocketText(r, dir))
				}
				want := slices.Clone(c.want)
				slices.Sort(got)
				slices.Sort(want)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("what is told (-want +got):\n%s", diff)
				}
			})
		}
	}
	t.Run("outside", func(t *testing.T) {
		outside := w.run(helperRun{action: "ring socket", args: []string{"connect, accept and talk", "inline", t.TempDir()}, flags: unix.CLONE_NEWNET, outside: true})
		if got := w.seen(func(r *Record) bool { return r.Task.PID == outside.pid }); len(got) != 0 {
			t.Errorf("saw %d records of a process outside of the sandbox, want none", len(got))
		}
	})
}
