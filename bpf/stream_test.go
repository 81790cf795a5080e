// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// helloOf is what crypto/tls says first.
func helloOf(t *testing.T) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: "api.example.com", NextProtos: []string{"h2"}}).Handshake()
	}()
	defer client.Close()
	hello := make([]byte, 16<<10)
	n, err := server.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	return hello[:n]
}

// helperSayPieces connects to a server of its own and says one piece after the other, each a segment: "fast open" sends
// the first with the SYN.
func helperSayPieces(args []string) (string, error) {
	if err := loopbackUp(); err != nil {
		return "", err
	}
	// Without a cookie, on both sides, and without an option of the server's.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte("1543"), 0o600); err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:4040")
	if err != nil {
		return "", err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return "", err
	}
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 4040}
	var conn net.Conn
	for i, word := range args[1:] {
		var piece []byte
		if _, err := fmt.Sscanf(word, "%x", &piece); err != nil {
			return "", err
		}
		switch {
		case i > 0:
			_, err = unix.Write(fd, piece)
		case args[0] == "fast open":
			err = unix.Sendto(fd, piece, unix.MSG_FASTOPEN, to)
		default:
			if err = unix.Connect(fd, to); err == nil {
				_, err = unix.Write(fd, piece)
			}
		}
		if err != nil {
			return "", fmt.Errorf("piece %d: %s", i, err.Error())
		}
		if conn == nil {
			if conn, err = listener.Accept(); err != nil {
				return "", err
			}
		}
		// What has arrived is in no segment with what comes next.
		if _, err := io.ReadFull(conn, make([]byte, len(piece))); err != nil {
			return "", err
		}
	}
	if err := unix.Close(fd); err != nil {
		return "", err
	}
	return "", conn.Close()
}

// TestKernelStreamNeeded has no more of a connection shown than can name whom it means, and all of that.
func TestKernelStreamNeeded(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	hello := helloOf(t)
	get := "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
	post := "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\n{}"
	redis := strings.Split(strings.Repeat("*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n ", 200), " ")[:200]
	single := strings.Split(string(hello), "")
	// The record is longer than the hello that it begins with: what comes after it may be the rest of one.
	spans := bytes.Clone(hello[:200])
	spans[3], spans[4] = 0, byte(len(spans)-5)
	for _, c := range []struct {
		name   string
		fast   bool
		pieces []string
		// want is how many of the pieces are shown.
		want int
	}{
		{"another protocol", false, redis, 0},
		{"TLS", false, []string{string(hello), "finished", "data"}, 1},
		{"TLS in two pieces", false, []string{string(hello[:20]), string(hello[20:]), "finished", "data"}, 2},
		{"TLS in single bytes", false, append(single, "data"), len(single) + 1},
		{"TLS whose hello spans records", false, []string{string(spans), "\x16\x03\x01", "more", "and more"}, 4},
		{"HTTP", false, []string{get, get, get}, 1},
		{"HTTP in pieces", false, []string{get[:10], get[10:20], get[20:], get, get}, 3},
		{"HTTP whose last piece is a line's end", false, []string{get[:len(get)-2], get[len(get)-2:], get, get}, 3},
		{"HTTP behind empty lines", false, []string{"\r\n\r\n", get, get}, 3},
		{"HTTP with a body", false, []string{post, post, post}, 3},
		{"fast open", true, []string{get[:10], get[10:], get}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"connect"}
			if c.fast {
				args[0] = "fast open"
			}
			for _, piece := range c.pieces {
				args = append(args, fmt.Sprintf("%x", piece))
			}
			helper := w.run(helperRun{action: "say pieces", args: args, flags: unix.CLONE_NEWNET})
			over := w.await(1, func(r *Record) bool {
				flow, ok := r.Payload.(*event.NetworkFlow)
				return ok && r.Task.PID == helper.pid && !flow.Inbound
			})
			if len(over) == 0 {
				t.Fatal("the connection does not end")
			}
			want := strings.Join(c.pieces[:c.want], "")
			var told []string
			got := make([]byte, 4096)
			known := 0
			for _, r := range w.seen(isStreamOf(helper.pid)) {
				s := r.Payload.(*Stream)
				told = append(told, fmt.Sprintf("%d of %x: %q", s.Offset, s.ID, s.Bytes))
				if int(s.Offset) > known {
					t.Fatalf("got %d bytes at %d, want them at %d", len(s.Bytes), s.Offset, known)
				}
				// A segment that is sent again, since nobody took the first in time, is shown again.
				known = max(known, int(s.Offset)+copy(got[s.Offset:], s.Bytes))
			}
			if string(got[:known]) != want {
				t.Errorf("shown are %d bytes %q,\nwant %d bytes %q;\ntold are %q", known, got[:known], len(want), want, told)
			}
		})
	}
}
