// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

const (
	// maxStreams bounds the directions of connections of one sandbox that are put together at a time.
	maxStreams = 256
	// maxStream bounds the bytes of each; more than the kernel side shows is not to be had.
	maxStream = 16 << 10
	// maxPieces bounds the pieces of each that came before their turn.
	maxPieces = 64
	// requestBytes is how much of what a connection sends is shown: when that is there, no more comes.
	requestBytes = 4096
	// maxRequestName bounds what is kept of a name: no host name is longer.
	maxRequestName = 255
	// maxALPN bounds the protocols that are kept.
	maxALPN = 16
)

// streamKey is one direction of one connection.
type streamKey struct {
	id   uint64
	sent bool
}

// streamBytes is what is known of one direction from its first byte on, and pieces that came before their turn.
type streamBytes struct {
	bytes  []byte
	pieces []bpf.Stream
	// taken is how much of the bytes was read as messages; closed is set when no more is wanted.
	taken  int
	closed bool
}

// streams is the connections of one sandbox whose first bytes are put together, oldest first.
type streams struct {
	open  map[streamKey]*streamBytes
	order []streamKey
	// evicted is how many made room before they had said what they ask for.
	evicted uint64
}

// add puts bytes into their place and returns all that are known from the first on; nil when there are no new
// ones or no more are wanted.
func (t *streams) add(s *bpf.Stream) []byte {
	key := streamKey{s.ID, s.Sent}
	b := t.open[key]
	if b == nil {
		if t.open == nil {
			t.open = map[streamKey]*streamBytes{}
		}
		if len(t.order) >= maxStreams {
			if !t.open[t.order[0]].closed {
				t.evicted++
			}
			delete(t.open, t.order[0])
			t.order = append(t.order[:0], t.order[1:]...)
		}
		b = &streamBytes{}
		t.open[key] = b
		t.order = append(t.order, key)
	}
	if b.closed || !b.put(s) {
		return nil
	}
	return b.bytes
}

// put adds a piece, and those that waited for it. It says whether there are more bytes now.
func (b *streamBytes) put(s *bpf.Stream) bool {
	if int(s.Offset) > len(b.bytes) {
		if len(b.pieces) < maxPieces && int(s.Offset) < maxStream {
			b.pieces = append(b.pieces, *s)
		}
		return false
	}
	known := len(b.bytes) - int(s.Offset)
	if known >= len(s.Bytes) || len(b.bytes) >= maxStream {
		return false
	}
	b.bytes = append(b.bytes, s.Bytes[known:]...)
	waiting := b.pieces
	b.pieces = nil
	for i := range waiting {
		b.put(&waiting[i])
	}
	return true
}

// done says that no more of the stream is wanted.
func (t *streams) done(s *bpf.Stream) {
	if b := t.open[streamKey{s.ID, s.Sent}]; b != nil {
		*b = streamBytes{closed: true}
	}
}

// messages is the DNS messages that are complete in the stream and were not read yet.
func (t *streams) messages(s *bpf.Stream) []bpf.DNSMessage {
	b := t.open[streamKey{s.ID, s.Sent}]
	var all []bpf.DNSMessage
	for {
		rest := b.bytes[b.taken:]
		if len(rest) < 2 {
			return all
		}
		size := int(rest[0])<<8 | int(rest[1])
		if len(rest) < 2+size {
			return all
		}
		m := bpf.ParseDNS(rest[2 : 2+size])
		m.Ends, m.Transport = s.Ends, event.TransportTCP
		all = append(all, m)
		b.taken += 2 + size
	}
}

// readRequest reads what the first bytes of a connection say. It is decided when no more bytes can change that:
// a request, or nil for a protocol that is none of those that name whom they mean.
func readRequest(data []byte) (request *event.NetworkRequest, decided bool) {
	const tlsHandshake = 0x16
	if data[0] == tlsHandshake {
		return readTLS(data)
	}
	return readHTTP(data)
}

// errRead stops the handshake once the hello is read.
var errRead = errors.New("the hello is read")

// readTLS has crypto/tls read a ClientHello. It needs a whole record at least: before, it is not asked.
func readTLS(data []byte) (*event.NetworkRequest, bool) {
	const head = 5
	full := len(data) >= requestBytes
	if len(data) < head || len(data) < head+(int(data[3])<<8|int(data[4])) && !full {
		return nil, false
	}
	var request *event.NetworkRequest
	config := &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			request = &event.NetworkRequest{Protocol: "tls", Name: cutName(hello.ServerName)}
			if request.Name != "" {
				request.Source = "sni"
			}
			for _, protocol := range hello.SupportedProtos[:min(len(hello.SupportedProtos), maxALPN)] {
				request.ALPN = append(request.ALPN, cutName(protocol))
			}
			return nil, errRead
		},
	}
	conn := &heard{Reader: bytes.NewReader(data)}
	err := tls.Server(conn, config).HandshakeContext(context.Background())
	if request != nil {
		return request, true
	}
	// A hello may span records: then the bytes end before it does.
	return nil, full || !conn.ended || err == nil
}

func cutName(name string) string {
	if len(name) > maxRequestName {
		return name[:maxRequestName]
	}
	return name
}

// heard is a connection of which only what the client said is there; what is said to it goes nowhere.
type heard struct {
	*bytes.Reader
	ended bool
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	h.ended = h.ended || errors.Is(err, io.EOF)
	return n, err
}

func (*heard) Write(p []byte) (int, error)      { return len(p), nil }
func (*heard) Close() error                     { return nil }
func (*heard) LocalAddr() net.Addr              { return nil }
func (*heard) RemoteAddr() net.Addr             { return nil }
func (*heard) SetDeadline(time.Time) error      { return nil }
func (*heard) SetReadDeadline(time.Time) error  { return nil }
func (*heard) SetWriteDeadline(time.Time) error { return nil }

// readHTTP has net/http read the head of a request, or as much of it as there is when no more comes. Servers pass over empty
// lines before it (RFC 9112, section 2.2), as net/http does not.
func readHTTP(data []byte) (*event.NetworkRequest, bool) {
	full := len(data) >= requestBytes
	data = bytes.TrimLeft(data, "\r\n")
	if !likeHTTP(data) {
		return nil, true
	}
	if !bytes.Contains(data, []byte("\r\n\r\n")) {
		end := bytes.LastIndex(data, []byte("\r\n"))
		if !full || end < 0 {
			return nil, full
		}
		data = append(append([]byte(nil), data[:end]...), "\r\n\r\n"...)
	}
	parsed, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
	if err != nil {
		return nil, true
	}
	request := &event.NetworkRequest{Protocol: "http", Method: parsed.Method, Name: cutName(hostOf(parsed.Host)), Source: "http_host"}
	if parsed.Method == http.MethodConnect || parsed.URL.IsAbs() {
		request.Source = "proxy"
	}
	if request.Name == "" {
		request.Source = ""
	}
	return request, true
}

// hostOf takes the port off.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// likeHTTP says whether bytes may be the beginning of a request: a method in capitals, then a space.
func likeHTTP(data []byte) bool {
	const longestMethod = 16
	for i, c := range data[:min(len(data), longestMethod)] {
		switch {
		case c == ' ':
			return i > 2
		case c < 'A' || c > 'Z':
			return false
		}
	}
	return len(data) < longestMethod
}
