// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// clientHello is what crypto/tls says first.
func clientHello(t testing.TB, name string, alpn ...string) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name, NextProtos: alpn}).Handshake()
	}()
	defer client.Close()
	hello := make([]byte, 16<<10)
	n, err := server.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	return hello[:n]
}

// dnsMessage is "ID TYPE NAME [ADDRESS…]", between port 4000 and the name server 192.0.2.53.
func dnsMessage(words []string, answer bool) *bpf.DNSMessage {
	var id uint16
	_, _ = fmt.Sscan(words[0], &id)
	m := &bpf.DNSMessage{
		Ends:        bpf.Ends{Peer: netip.MustParseAddrPort("192.0.2.53:53"), LocalPort: 4000, Sent: !answer},
		NameAnswers: bpf.NameAnswers{Name: words[2]}, ID: id, Type: words[1], Transport: event.TransportUDP, Answer: answer,
	}
	if !answer {
		return m
	}
	m.Code = "NXDOMAIN"
	for _, word := range words[3:] {
		m.Code = "NOERROR"
		m.Answers = append(m.Answers, bpf.NameAnswer{Addr: netip.MustParseAddr(word), TTL: time.Minute})
	}
	return m
}

// streamOf is "PEER OFFSET TEXT", in which + stands for the end of a line.
func streamOf(words []string) *bpf.Stream {
	var offset uint32
	_, _ = fmt.Sscan(words[1], &offset)
	text := strings.ReplaceAll(strings.Join(words[2:], " "), "+", "\r\n")
	return &bpf.Stream{
		Ends: bpf.Ends{Peer: netip.MustParseAddrPort(words[0]), LocalPort: 4001, Sent: true}, ID: 1, Offset: offset, Bytes: []byte(text),
	}
}

func TestReadRequest(t *testing.T) {
	hello := clientHello(t, "api.example.com", "h2", "http/1.1")
	long := "GET / HTTP/1.1\r\nHost: late.example\r\nX: " + strings.Repeat("x", requestBytes)
	for _, c := range []struct {
		name string
		data string
		want *event.NetworkRequest
		// least is how many bytes decide it; 0 for all.
		least int
	}{
		{
			name: "TLS", data: string(hello), least: len(hello),
			want: &event.NetworkRequest{Protocol: "tls", Name: "api.example.com", Source: "sni", ALPN: []string{"h2", "http/1.1"}},
		},
		{name: "HTTP", data: "GET /x HTTP/1.1\r\nHost: Example.com:80\r\n\r\n", want: &event.NetworkRequest{
			Protocol: "http", Name: "Example.com", Source: "http_host", Method: "GET",
		}},
		{name: "CONNECT", data: "CONNECT api.example.com:443 HTTP/1.1\r\nHost: other.example\r\n\r\n", want: &event.NetworkRequest{
			Protocol: "http", Name: "api.example.com", Source: "proxy", Method: "CONNECT",
		}},
		{name: "a URL, for a proxy", data: "GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n", want: &event.NetworkRequest{
			Protocol: "http", Name: "api.example.com", Source: "proxy", Method: "GET",
		}},
		{name: "HTTP behind empty lines", data: "\r\n\r\nGET / HTTP/1.1\r\nHost: late.example\r\n\r\n", want: &event.NetworkRequest{
			Protocol: "http", Name: "late.example", Source: "http_host", Method: "GET",
		}},
		{name: "HTTP without a host", data: "GET / HTTP/1.0\r\n\r\n", want: &event.NetworkRequest{Protocol: "http", Method: "GET"}},
		{name: "a head that is too long", data: long[:requestBytes], want: &event.NetworkRequest{
			Protocol: "http", Name: "late.example", Source: "http_host", Method: "GET",
		}},
		{name: "SSH", data: "SSH-2.0-OpenSSH_9.2\r\n", least: 4},
		{name: "no HTTP", data: "GET \x00\r\n\r\n"},
		{name: "no TLS", data: "\x16\x03\x01\x00\x05abcde"},
		{name: "binary", data: "\x00\x01\x02", least: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			least := c.least
			if least == 0 {
				least = len(c.data)
			}
			for n := 1; n <= len(c.data); n++ {
				got, decided := readRequest([]byte(c.data[:n]))
				if decided != (n >= least) {
					t.Fatalf("%d of %d bytes: decided %v", n, len(c.data), decided)
				}
				if !decided {
					continue
				}
				if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
					t.Fatalf("%d of %d bytes: got %+v, want %+v", n, len(c.data), got, c.want)
				}
				break
			}
		})
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(clientHello(f, "example.org", "h2"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add([]byte{0x16, 3, 1, 0, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		request, decided := readRequest(data)
		if request != nil && (!decided || len(request.Name) > maxRequestName || len(request.ALPN) > maxALPN) {
			t.Errorf("decided %v: %+v", decided, *request)
		}
		if len(data) >= requestBytes && !decided {
			t.Error("not decided, and no more bytes come")
		}
		if !decided && noMoreShown(data) {
			t.Error("not decided, and no more bytes are shown")
		}
	})
}

// noMoreShown says whether the kernel side shows no more of a connection that began so (stream_begin and stream_enough).
func noMoreShown(data []byte) bool {
	switch first := data[0]; {
	case first >= 'A' && first <= 'Z':
		return bytes.HasSuffix(data, []byte("\r\n\r\n"))
	case first == '\r' || first == '\n':
		return false
	case first != 0x16:
		return true
	}
	if len(data) < 9 || data[5] != 1 {
		return false
	}
	record, hello := int(data[3])<<8|int(data[4]), int(data[6])<<16|int(data[7])<<8|int(data[8])
	return 4+hello <= record && len(data) >= 5+record
}

func TestStreams(t *testing.T) {
	text := []byte("the first bytes of a stream")
	piece := func(from, to int) *bpf.Stream {
		return &bpf.Stream{ID: 1, Ends: bpf.Ends{Sent: true}, Offset: uint32(from), Bytes: text[from:to]}
	}
	for name, pieces := range map[string][]*bpf.Stream{
		"in order":       {piece(0, 9), piece(9, 20), piece(20, 27)},
		"the last first": {piece(20, 27), piece(9, 20), piece(0, 9)},
		"again":          {piece(0, 9), piece(0, 9), piece(5, 20), piece(3, 27)},
		"with holes":     {piece(9, 10), piece(12, 27), piece(0, 9), piece(8, 13)},
	} {
		var s streams
		var got []byte
		for _, p := range pieces {
			if all := s.add(p); all != nil {
				got = all
			}
		}
		if !bytes.Equal(got, text) {
			t.Errorf("%s: got %q", name, got)
		}
	}
	var s streams
	for id := range uint64(maxStreams * 2) {
		s.add(&bpf.Stream{ID: id, Bytes: text})
	}
	if len(s.open) != maxStreams || len(s.order) != maxStreams {
		t.Errorf("%d streams are kept, want %d", len(s.open), maxStreams)
	}
	for n := range uint32(maxPieces * 2) {
		s.add(&bpf.Stream{ID: 1 << 40, Offset: 2 + n, Bytes: []byte{1}})
	}
	if got := len(s.open[streamKey{id: 1 << 40}].pieces); got != maxPieces {
		t.Errorf("%d pieces wait, want %d", got, maxPieces)
	}
	last := &bpf.Stream{ID: 1 << 40}
	s.done(last)
	if got := s.add(&bpf.Stream{ID: 1 << 40, Bytes: text}); got != nil {
		t.Errorf("got %q of a stream that is done", got)
	}
}

func TestStreamMessages(t *testing.T) {
	message := dnsmessage.Message{Header: dnsmessage.Header{ID: 9}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("tcp.example."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET,
	}}}
	packed, err := message.Pack()
	if err != nil {
		t.Fatal(err)
	}
	framed := append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...)
	two := slices.Concat(framed, framed)
	var s streams
	var names []string
	for i := range two {
		piece := &bpf.Stream{ID: 1, Ends: bpf.Ends{Sent: true}, Offset: uint32(i), Bytes: two[i : i+1]}
		s.add(piece)
		for _, m := range s.messages(piece) {
			names = append(names, fmt.Sprintf("%s %s %s", m.Transport, m.Type, m.Name))
		}
	}
	if want := []string{"tcp TXT tcp.example", "tcp TXT tcp.example"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestNamesOfWords(t *testing.T) {
	now, addr := time.Unix(1000, 0), netip.MustParseAddr("192.0.2.1")
	var c nameCache
	c.said(addr, "said.example", "sni", now)
	if name, source := c.nameOf(addr, now); name != "said.example" || source != "sni" {
		t.Errorf("got %q from %q", name, source)
	}
	c.add(&bpf.NameAnswers{Name: "looked-up.example", Answers: []bpf.NameAnswer{{Addr: addr}}}, now)
	c.said(addr, "forged.example", "sni", now)
	if name, source := c.nameOf(addr, now); name != "looked-up.example" || source != "dns" {
		t.Errorf("got %q from %q, want what the name server told", name, source)
	}
}

func TestQuestions(t *testing.T) {
	start := time.Unix(1000, 0)
	ask := func(id int) *bpf.DNSMessage {
		return &bpf.DNSMessage{
			Ends:        bpf.Ends{Peer: netip.MustParseAddrPort("192.0.2.53:53"), LocalPort: 4000},
			NameAnswers: bpf.NameAnswers{Name: "example.org"}, ID: uint16(id), Type: "A", Transport: event.TransportUDP,
		}
	}
	var q questions
	who := &event.Process{PID: 1}
	q.ask(ask(1), who, start)
	q.ask(ask(1), nil, start.Add(time.Second))
	if a, found := q.answered(ask(1)); !found || a.who != who || a.at != start {
		t.Errorf("got %+v, %v", a, found)
	}
	if _, found := q.answered(ask(1)); found {
		t.Error("the same question is answered twice")
	}
	for id := range maxQuestions + 1 {
		given := q.ask(ask(id), who, start.Add(time.Duration(id)*time.Millisecond))
		if (len(given) != 0) != (id == maxQuestions) {
			t.Fatalf("question %d: %d others are given up", id, len(given))
		}
	}
	if len(q.waiting) > maxQuestions {
		t.Errorf("%d questions wait, want no more than %d", len(q.waiting), maxQuestions)
	}
	if over := q.expire(start.Add(time.Hour)); len(over) != maxQuestions || len(q.waiting) != 0 || len(q.order) != 0 {
		t.Errorf("%d questions are over, %d wait", len(over), len(q.waiting))
	}
}
