// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// helperTransferPassed gets a descriptor over a unix socket, and reads and writes by it.
func helperTransferPassed(args []string) (string, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: args[0], Net: "unix"})
	if err != nil {
		return "", err
	}
	control := make([]byte, unix.CmsgSpace(4))
	if _, _, _, _, err := conn.ReadMsgUnix(make([]byte, 1), control); err != nil {
		return "", err
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return "", err
	}
	passed, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return "", err
	}
	n, err := unix.Pread(passed[0], make([]byte, 1500), 0)
	if err := wantMoved(n, 1500, err); err != nil {
		return "", err
	}
	n, err = unix.Write(passed[0], make([]byte, 700))
	return "", wantMoved(n, 700, err)
}

// TestKernelTransferPassed: what is read and written by a descriptor that another process opened, outside of the sandbox,
// is told with the file's path, of the one that uses it.
func TestKernelTransferPassed(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir := realPath(t, t.TempDir())
	if err := os.WriteFile(filepath.Join(dir, "secret"), make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "secret"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	socket := filepath.Join(dir, "socket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	passed := make(chan error, 1)
	go func() {
		conn, err := listener.AcceptUnix()
		if err == nil {
			_, _, err = conn.WriteMsgUnix([]byte("x"), unix.UnixRights(int(file.Fd())), nil)
		}
		passed <- err
	}()
	helper := w.run(helperRun{action: "transfer passed", args: []string{socket}})
	if err := <-passed; err != nil {
		t.Fatal(err)
	}
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	want := map[string]event.FileIO{"secret": {Read: 1500, Reads: 1, Written: 700, Writes: 1}}
	if diff := cmp.Diff(want, w.moved(0, dir)); diff != "" {
		t.Errorf("what was read and written (-want +got):\n%s", diff)
	}
}

// helperSpliceRing moves a file's bytes through a pipe into another one, by a ring.
func helperSpliceRing(args []string) (string, error) {
	const opSplice, size, anywhere = 30, 3000, ^uint64(0)
	mode := ringModes()[args[0]]
	r, err := newRing(mode.setup)
	if err != nil {
		return noRing + ": " + err.Error(), nil
	}
	defer r.close()
	if err := unix.Chdir(args[1]); err != nil {
		return "", err
	}
	from, err := filled(size + 1000)
	if err != nil {
		return "", err
	}
	to, err := opened("a")
	if err != nil {
		return "", err
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return "", err
	}
	for _, entry := range []ringEntry{
		{FD: int32(pipe[1]), Offset: anywhere, FileIndex: uint32(from), Address: 500},
		{FD: int32(to), Offset: 0, FileIndex: uint32(pipe[0]), Address: anywhere},
	} {
		entry.Op, entry.Flags, entry.Len = opSplice, mode.entry, size
		n, err := r.do(entry)
		if err := wantMoved(n, size, err); err != nil {
			return "", fmt.Errorf("%s", err.Error())
		}
	}
	return "", nil
}

// TestKernelTransferRingSplice: both ends of a splice through a ring count, in every mode.
func TestKernelTransferRingSplice(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for mode := range ringModes() {
		t.Run(mode, func(t *testing.T) {
			dir := realPath(t, t.TempDir())
			if err := os.WriteFile(filepath.Join(dir, "filled"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			helper := w.run(helperRun{action: "splice ring", args: []string{mode, dir}})
			requireRing(t, helper.said)
			w.await(1, of[*event.ProcessExit](int(helper.pid)))
			want := map[string]event.FileIO{
				"filled": {Read: 3000, Reads: 1, Via: event.ViaURing}, "a": {Written: 3000, Writes: 1, Via: event.ViaURing},
			}
			if diff := cmp.Diff(want, w.moved(helper.pid, dir)); diff != "" {
				t.Errorf("what was read and written (-want +got):\n%s", diff)
			}
		})
	}
}

// helperPacketsRing asks a name server, and a server for a page, each twice: by a ring, and by calls.
func helperPacketsRing(args []string) (string, error) {
	mode := ringModes()[args[0]]
	if err := loopbackUp(); err != nil {
		return "", err
	}
	r, err := newRing(mode.setup)
	if err != nil {
		return noRing + ": " + err.Error(), nil
	}
	defer r.close()
	server, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return "", err
	}
	defer server.Close()
	if _, err := listenOn(4242); err != nil {
		return "", err
	}
	for _, way := range []string{"calls", "ring"} {
		query := dnsmessage.Message{Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(way + ".example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
		}}}
		asked, err := query.Pack()
		if err != nil {
			return "", err
		}
		for kind, text := range map[int][]byte{unix.SOCK_DGRAM: asked, unix.SOCK_STREAM: []byte("GET /" + way + " HTTP/1.1\r\n\r\n")} {
			fd, err := unix.Socket(unix.AF_INET, kind, 0)
			if err != nil {
				return "", err
			}
			to := loopbackPort(map[int]int{unix.SOCK_DGRAM: 53, unix.SOCK_STREAM: 4242}[kind])
			if err := unix.Connect(fd, to); err != nil {
				return "", err
			}
			var n int
			if way == "calls" {
				n, err = unix.Write(fd, text)
			} else {
				n, err = r.do(ringEntry{Op: ringOpSend, Flags: mode.entry, FD: int32(fd), Len: uint32(len(text)), Address: r.keep(unsafe.Pointer(&text[0]), text)})
			}
			if err := wantMoved(n, len(text), err); err != nil {
				return "", fmt.Errorf("%s", err.Error())
			}
		}
	}
	return "", nil
}

// TestKernelRingPackets: a DNS question and the first bytes of a connection say whether they were sent through a ring,
// by a socket that was connected without one.
func TestKernelRingPackets(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for mode := range ringModes() {
		t.Run(mode, func(t *testing.T) {
			helper := w.run(helperRun{action: "packets ring", args: []string{mode}, flags: unix.CLONE_NEWNET})
			requireRing(t, helper.said)
			w.await(1, of[*event.ProcessExit](int(helper.pid)))
			got := map[string]event.Via{}
			for _, r := range w.seen(func(r *Record) bool { return r.Task.PID == helper.pid }) {
				switch sent := r.Payload.(type) {
				case *DNSMessage:
					got[sent.Name] = sent.Via
				case *Stream:
					line, _, _ := strings.Cut(string(sent.Bytes), " HTTP")
					got[line] = sent.Via
				}
			}
			want := map[string]event.Via{
				"calls.example.com": "", "GET /calls": "", "ring.example.com": event.ViaURing, "GET /ring": event.ViaURing,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what was sent, and through what (-want +got):\n%s", diff)
			}
		})
	}
}
