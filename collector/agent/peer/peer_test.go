// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// TestMain is also the client: another process than the one that accepts.
func TestMain(m *testing.M) {
	address := os.Getenv("WATCHGLASS_TEST_DIAL")
	if address == "" {
		os.Exit(m.Run())
	}
	c, err := net.Dial(os.Getenv("WATCHGLASS_TEST_NETWORK"), address)
	if err != nil {
		os.Exit(1)
	}
	if os.Getenv("WATCHGLASS_TEST_CLOSE") != "" {
		_ = c.Close()
	}
	_, _ = os.Stdout.WriteString("connected\n")
	_, _ = io.ReadAll(os.Stdin)
}

// client starts a process that connects, and returns its pid and the accepted connection.
func client(t *testing.T, l net.Listener, env ...string) (uint32, net.Conn) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "WATCHGLASS_TEST_DIAL="+l.Addr().String(), "WATCHGLASS_TEST_NETWORK="+l.Addr().Network())...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return uint32(cmd.Process.Pid), c
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("this machine has no %s: %v", address, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// finder knows every process to be in the sandbox, but this one.
func finder(t *testing.T, sandbox uint64) *Finder {
	t.Helper()
	f, err := New(Settings{Logger: slog.New(slog.DiscardHandler), Sandbox: func(pid uint32) uint64 {
		if pid == uint32(os.Getpid()) {
			return 0
		}
		return sandbox
	}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func portOf(c net.Conn) uint16 { return netip.MustParseAddrPort(c.LocalAddr().String()).Port() }

// told gives a finder the kernel's record of a connection that was accepted.
func told(f *Finder, c net.Conn, sandbox uint64, pid uint32, start uint64) {
	f.Connected(&bpf.Record{Time: time.Now(), Sandbox: sandbox, Task: bpf.Task{PID: pid, Start: start}}, &event.NetworkConnect{
		Transport: event.TransportTCP, Peer: netip.MustParseAddrPort(c.LocalAddr().String()), Local: netip.MustParseAddrPort(c.RemoteAddr().String()),
	})
}

func TestProcessesOfSockets(t *testing.T) {
	for _, c := range []struct{ network, address string }{
		{"tcp", "127.0.0.1:0"}, {"tcp", "[::1]:0"}, {"tcp", "[::]:0"}, {"unix", filepath.Join(t.TempDir(), "s")},
	} {
		t.Run(c.address, func(t *testing.T) {
			pid, conn := client(t, listen(t, c.network, c.address))
			task, _ := ReadTask(pid)
			want := agent.Origin{Sandbox: 7, PID: pid, Start: task.Start}
			if got := finder(t, 7).Of(t.Context(), conn); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			if got := finder(t, 0).Of(t.Context(), conn); got != (agent.Origin{}) {
				t.Errorf("in no sandbox, and yet %+v", got)
			}
		})
	}
}

// TestRecordsSayWhereToLook tells of connects: the process that holds the socket counts, whatever the records say.
func TestRecordsSayWhereToLook(t *testing.T) {
	pid, conn := client(t, listen(t, "tcp", "127.0.0.1:0"))
	task, _ := ReadTask(pid)
	f := finder(t, 7)
	f.Watch(portOf(conn))
	told(f, conn, 66, uint32(os.Getpid()), 1) // of another network namespace, with the same ends
	told(f, conn, 7, pid, task.Start+5)       // finer than /proc tells
	if got := f.Of(t.Context(), conn); got != (agent.Origin{Sandbox: 7, PID: pid, Start: task.Start + 5}) {
		t.Errorf("%+v", got)
	}
	stale := finder(t, 7)
	stale.Watch(portOf(conn))
	told(stale, conn, 66, pid, task.Start+2*agent.ClockTick) // an earlier process of that pid
	if got := stale.Of(t.Context(), conn); got.Sandbox != 7 {
		t.Errorf("%+v", got)
	}
	other := finder(t, 0)
	other.Watch(1)
	told(other, conn, 66, pid, task.Start)
	if other.connects.Len() != 0 {
		t.Error("connects to ports of others are remembered")
	}
}

// TestClosedSocket is of a client that hung up before anybody looked: its connect event alone is left.
func TestClosedSocket(t *testing.T) {
	pid, conn := client(t, listen(t, "tcp", "127.0.0.1:0"), "WATCHGLASS_TEST_CLOSE=1")
	if got := finder(t, 7).Of(t.Context(), conn); got != (agent.Origin{}) {
		t.Errorf("found by nothing: %+v", got)
	}
	f := finder(t, 7)
	f.Watch(portOf(conn))
	told(f, conn, 7, pid, 5)
	want := agent.Origin{Sandbox: 7, PID: pid, Start: 5}
	if got := f.Of(t.Context(), conn); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	// Another with the same ends, maybe in a namespace of its own: nobody knows whose it was.
	told(f, conn, 66, 1<<30, 5)
	if got := f.Of(t.Context(), conn); got != (agent.Origin{}) {
		t.Errorf("guessed: %+v", got)
	}
}

func TestFloodOfConnects(t *testing.T) {
	f := finder(t, 7)
	f.Watch(4318)
	c := event.NetworkConnect{Transport: event.TransportTCP, Peer: netip.MustParseAddrPort("127.0.0.1:4318"), Local: netip.MustParseAddrPort("127.0.0.1:9")}
	f.Connected(&bpf.Record{Sandbox: 1, Task: bpf.Task{PID: 1}}, &c)
	for port := range 3 * maxConnects {
		c.Local = netip.AddrPortFrom(c.Local.Addr(), uint16(port+10))
		f.Connected(&bpf.Record{Sandbox: 2, Task: bpf.Task{PID: 2}}, &c)
	}
	for table := range f.connects.All() {
		if table.Len() > maxConnects {
			t.Errorf("%d connects are remembered", table.Len())
		}
	}
	if got := f.candidates(ends{netip.MustParseAddrPort("127.0.0.1:9"), c.Peer}); len(got) != 1 {
		t.Errorf("another sandbox's flood made %d of 1", len(got))
	}
}

func TestNotWaitedForLong(t *testing.T) {
	_, conn := client(t, listen(t, "tcp", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := finder(t, 7).Of(ctx, conn); got != (agent.Origin{}) {
		t.Errorf("%+v", got)
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1 2"
	got, ok := parseStat([]byte("42 (a) b (()" + rest))
	if want := (Task{PID: 42, Parent: 7, Start: 123456 * agent.ClockTick, Name: "a) b (("}); !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, bad := range []string{"", "42", "42 (a)", "42 (a) S", ") 42 (" + rest, "x (a)" + rest, "42 (a) S -1" + rest[4:]} {
		if got, ok := parseStat([]byte(bad)); ok {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("42 (a) b) S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1 2"))
	f.Fuzz(func(_ *testing.T, text []byte) { parseStat(text) })
}
