// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// helperTalk sends 100 bytes on a connection, and 50 when the file "more" is there, then closes it.
func helperTalk(args []string) (string, error) {
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		return "", err
	}
	if _, err := conn.Write(make([]byte, 100)); err != nil {
		return "", err
	}
	if err := waitForFile(filepath.Join(args[1], "more")); err != nil {
		return "", err
	}
	if _, err := conn.Write(make([]byte, 50)); err != nil {
		return "", err
	}
	return "", conn.Close()
}

// TestKernelFlowContinues: a connection that goes on is told so far, again and again, and at its end; what each event
// adds to those before sums up to what went over it.
func TestKernelFlowContinues(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.FlowInterval = 200 * time.Millisecond
	w := startWatchWith(t, cfg)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write(make([]byte, 30))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}()
	peer := netip.MustParseAddrPort(listener.Addr().String())
	dir := t.TempDir()
	done := make(chan helperResult, 1)
	go func() { done <- w.run(helperRun{action: "talk", args: []string{peer.String(), dir}}) }()
	isFlow := func(r *Record) bool { return flowOf(r) != nil && flowOf(r).Peer == peer }
	w.await(3, isFlow)
	if err := os.WriteFile(filepath.Join(dir, "more"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	helper := <-done
	found := w.await(1, func(r *Record) bool { return isFlow(r) && !flowOf(r).Continuing })
	if len(found) != 1 {
		t.Fatalf("%d ends of the connection, want 1", len(found))
	}
	var sent, received uint64
	var last *event.NetworkFlow
	all := w.seen(isFlow)
	for _, r := range all {
		f := flowOf(r)
		if r.Task.PID != helper.pid {
			t.Errorf("told of process %d, want %d", r.Task.PID, helper.pid)
		}
		if last != nil && (f.Sent < last.Sent || f.Duration < last.Duration) {
			t.Errorf("%+v comes after %+v", *f, *last)
		}
		if f.Continuing == (f.End != "") {
			t.Errorf("goes on %v and ended by %q", f.Continuing, f.End)
		}
		sent, received, last = sent+f.Sent-f.ToldSent, received+f.Received-f.ToldReceived, f
	}
	if len(all) < 4 || sent != 150 || received != 30 {
		t.Errorf("%d events tell of %d bytes sent and %d received, want at least 4, 150 and 30", len(all), sent, received)
	}
	if last.Continuing || last.Sent != 150 || last.Received != 30 {
		t.Errorf("the last event is %+v", *last)
	}
}

// TestKernelFlowsLeft: what went over a connection that is open when nobody reads any more is told, whatever the interval.
func TestKernelFlowsLeft(t *testing.T) {
	requireKernel(t)
	for name, interval := range map[string]time.Duration{"before the interval": time.Hour, "without one": 0} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.FlowInterval = interval
			w := startWatchWith(t, cfg)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			peer, dir := netip.MustParseAddrPort(listener.Addr().String()), t.TempDir()
			done := make(chan helperResult, 1)
			go func() { done <- w.run(helperRun{action: "talk", args: []string{peer.String(), dir}}) }()
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			isFlow := func(r *Record) bool { return flowOf(r) != nil && flowOf(r).Peer == peer }
			if told := w.seen(isFlow); len(told) != 0 {
				t.Errorf("%d flows are told while it goes on, want none: %+v", len(told), flowOf(told[0]))
			}
			w.stop()
			if told := w.seen(isFlow); len(told) != 1 || !flowOf(told[0]).Continuing || flowOf(told[0]).Sent != 100 {
				t.Errorf("%d flows are told in the end, want one of 100 bytes that goes on", len(told))
			}
			if err := os.WriteFile(filepath.Join(dir, "more"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			<-done
		})
	}
}

// helperDatagrams exchanges datagrams with a server that answers each with three bytes: by a connected socket, and by one
// that is not, which it closes when the file "close" is there.
func helperDatagrams(args []string) (string, error) {
	server, err := net.ResolveUDPAddr("udp", args[0])
	if err != nil {
		return "", err
	}
	connected, err := net.DialUDP("udp", nil, server)
	if err != nil {
		return "", err
	}
	other, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return "", err
	}
	answer := make([]byte, 100)
	for range 3 {
		if _, err := connected.Write(make([]byte, 100)); err != nil {
			return "", err
		}
		if _, err := connected.Read(answer); err != nil {
			return "", err
		}
		if _, err := other.WriteToUDP(make([]byte, 20), server); err != nil {
			return "", err
		}
		if _, err := other.Read(answer); err != nil {
			return "", err
		}
	}
	if err := connected.Close(); err != nil {
		return "", err
	}
	if err := waitForFile(filepath.Join(args[1], "close")); err != nil {
		return "", err
	}
	return "", other.Close()
}

// answerDatagrams serves UDP: three bytes for each datagram.
func answerDatagrams(t *testing.T) netip.AddrPort {
	t.Helper()
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		buffer := make([]byte, 2048)
		for {
			_, from, err := server.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = server.WriteToUDPAddrPort([]byte("yes"), from)
		}
	}()
	return netip.MustParseAddrPort(server.LocalAddr().String())
}

// TestKernelDatagramFlows: what UDP sockets exchange with a peer is told when they are closed.
func TestKernelDatagramFlows(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	peer := answerDatagrams(t)
	dir := t.TempDir()
	done := make(chan helperResult, 1)
	go func() { done <- w.run(helperRun{action: "datagrams", args: []string{peer.String(), dir}}) }()
	isFlow := func(r *Record) bool { return flowOf(r) != nil && flowOf(r).Transport == event.TransportUDP }
	first := w.await(1, isFlow)
	if err := os.WriteFile(filepath.Join(dir, "close"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	helper := <-done
	if len(first) != 1 {
		t.Fatalf("%d flows when one socket was closed, want 1", len(first))
	}
	all := w.await(2, isFlow)
	if len(all) != 2 {
		t.Fatalf("%d flows, want 2", len(all))
	}
	for i, want := range []event.NetworkFlow{
		{Sent: 300, Received: 9, SentPackets: 3, ReceivedPackets: 3},
		{Sent: 60, Received: 9, SentPackets: 3, ReceivedPackets: 3},
	} {
		got := *flowOf(all[i])
		want.Transport, want.Peer, want.End, want.Local, want.Duration = event.TransportUDP, peer, "local", got.Local, got.Duration
		if got != want || !got.Local.IsValid() || got.Duration <= 0 {
			t.Errorf("flow %d is\n%+v, want\n%+v", i, got, want)
		}
		if all[i].Task.PID != helper.pid {
			t.Errorf("flow %d is of process %d, want %d", i, all[i].Task.PID, helper.pid)
		}
	}
	outside := w.run(helperRun{action: "datagrams", args: []string{peer.String(), dir}, outside: true})
	if got := w.seen(func(r *Record) bool { return r.Task.PID == outside.pid }); len(got) != 0 {
		t.Errorf("%d records of a process outside of the sandbox", len(got))
	}
}

// helperManyPeers sends a datagram from one socket to each of so many ports.
func helperManyPeers([]string) (string, error) {
	socket, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return "", err
	}
	for port := 1; port <= 5000; port++ {
		// What nobody listens on is refused later, which is no matter here.
		_, _ = socket.WriteToUDP([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 1, 0, 1), Port: port})
	}
	return "", socket.Close()
}

// TestKernelDatagramFlowsOverflow: what finds no room is counted as lost, and what does is told.
func TestKernelDatagramFlowsOverflow(t *testing.T) {
	requireKernel(t)
	w := startWatchOwn(t)
	w.run(helperRun{action: "many peers"})
	counts, err := w.tracer.Counts()
	if err != nil {
		t.Fatal(err)
	}
	var dropped uint64
	for _, c := range counts {
		if c.Sandbox == w.id && c.Kind == "network.flow by UDP" {
			dropped = c.Dropped
		}
	}
	if dropped == 0 || dropped > 5000 {
		t.Errorf("%d datagrams were not counted, want some of 5000", dropped)
	}
	// The first peers of a socket are told when it is closed, others are idle later.
	closed := w.await(4, func(r *Record) bool { return flowOf(r) != nil && flowOf(r).End == "local" })
	if len(closed) != 4 {
		t.Errorf("%d flows are told when the socket was closed, want 4", len(closed))
	}
}

// helperQUIC sends datagrams that look like the first of QUIC connections, and others that do not, from one socket.
func helperQUIC(args []string) (string, error) {
	conn, err := net.Dial("udp", args[0])
	if err != nil {
		return "", err
	}
	for i, c := range []struct {
		start string
		size  int
	}{
		{"\xc3\x00\x00\x00\x01", 1200},
		{"\xc3\x00\x00\x00\x01", 1199},
		{"\x43\x00\x00\x00\x01", 1200},
		{"\xc3\x00\x00\x00\x02", 1200},
		{"\xd3\x6b\x33\x43\xcf", 1350},
		{"\xc3\x00\x00\x00\x01", 1252},
		{"\xc3\x00\x00\x00\x01", 1200},
		{"\xc3\x00\x00\x00\x01", 1200},
	} {
		datagram := append([]byte(c.start), byte(i))
		if _, err := conn.Write(append(datagram, make([]byte, c.size-len(datagram))...)); err != nil {
			return "", err
		}
	}
	return "", conn.Close()
}

// TestKernelQUIC: of the first datagrams to a peer those that may begin a QUIC connection are shown, four at most.
func TestKernelQUIC(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	helper := w.run(helperRun{action: "quic", args: []string{answerDatagrams(t).String()}})
	found := w.await(4, of[*Datagram](int(helper.pid)))
	if len(found) != 4 {
		t.Fatalf("%d datagrams are shown, want 4", len(found))
	}
	for i, want := range []struct {
		number byte
		size   int
	}{{0, 1200}, {4, 1350}, {5, 1252}, {6, 1200}} {
		d := found[i].Payload.(*Datagram)
		if len(d.Bytes) != want.size || d.Bytes[5] != want.number || d.Number != uint32(i) || !d.Sent || d.LocalPort == 0 {
			t.Errorf("datagram %d is number %d of %d bytes, the %dth: %+v", i, d.Bytes[5], len(d.Bytes), d.Number, d.Ends)
		}
	}
}
