// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// answerMessage is the answer to a query for the addresses of a name, over a CNAME, in wire form.
func answerMessage(id uint16, name string, addrs []netip.Addr, ttl uint32) ([]byte, error) {
	asked, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", name, err)
	}
	alias := dnsmessage.MustNewName("alias.example.net.")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, Response: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{{Name: asked, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: asked, Class: dnsmessage.ClassINET, TTL: ttl},
			Body:   &dnsmessage.CNAMEResource{CNAME: alias},
		}},
	}
	for _, addr := range addrs {
		head := dnsmessage.ResourceHeader{Name: alias, Class: dnsmessage.ClassINET, TTL: ttl}
		var body dnsmessage.ResourceBody = &dnsmessage.AAAAResource{AAAA: addr.As16()}
		if addr.Is4() {
			body = &dnsmessage.AResource{A: addr.As4()}
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: body})
	}
	return m.Pack()
}

// namesOf is the addresses of a record's answer, nil when it is none.
func namesOf(r *Record) *NameAnswers {
	message, ok := r.Payload.(*DNSMessage)
	if !ok || !message.Answer {
		return nil
	}
	return &message.NameAnswers
}

func manyAddrs(n int) []netip.Addr {
	addrs := make([]netip.Addr, n)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{127, 0, 1, byte(i)})
	}
	return addrs
}

// TestKernelDNS resolves a name inside a network namespace that the helper made: the answer is told
// before the connect that follows it.
func TestKernelDNS(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for name, n := range map[string]int{"Small.Example.com.": 2, "large.example.com.": 50} {
		helper := w.run(helperRun{action: "resolve", args: []string{name, fmt.Sprint(n)}, flags: unix.CLONE_NEWNET})
		want := strings.ToLower(strings.TrimSuffix(name, "."))
		found := w.await(1, func(r *Record) bool { return namesOf(r) != nil && namesOf(r).Name == want })
		if len(found) == 0 {
			t.Fatalf("no answer for %q", name)
		}
		got := namesOf(found[0])
		if len(got.Answers) != n || got.Answers[1].Addr != manyAddrs(2)[1] || got.Answers[0].TTL != time.Minute {
			t.Errorf("%s: got %d answers %v, want %d", name, len(got.Answers), got.Answers, n)
		}
		if found[0].Sandbox != w.id {
			t.Errorf("got sandbox %d, want %d", found[0].Sandbox, w.id)
		}
		all := w.seen(func(*Record) bool { return true })
		connect := slices.IndexFunc(all, func(r *Record) bool {
			return connectOf(r) != nil && r.Task.PID == helper.pid && connectOf(r).Peer.Addr() == manyAddrs(1)[0]
		})
		if answer := slices.Index(all, found[0]); connect < answer {
			t.Errorf("%s: the connect is record %d, before the answer, record %d", name, connect, answer)
		}
	}
}

func TestKernelDNSOutside(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	w.run(helperRun{action: "resolve", args: []string{"a.example.com.", "1"}, flags: unix.CLONE_NEWNET, outside: true})
	w.run(helperRun{action: "resolve", args: []string{"b.example.com.", "1"}, flags: unix.CLONE_NEWNET})
	found := w.await(1, func(r *Record) bool { return namesOf(r) != nil })
	for _, r := range found {
		if namesOf(r).Name != "b.example.com" {
			t.Errorf("saw an answer for %q", namesOf(r).Name)
		}
	}
	if len(found) == 0 {
		t.Error("no answer seen inside of the sandbox")
	}
}

// helperResolve serves DNS on the loopback of its own network namespace, asks for a name with the given
// number of addresses, and connects to the first.
func helperResolve(args []string) (string, error) {
	var n int
	if _, err := fmt.Sscan(args[1], &n); err != nil {
		return "", err
	}
	if err := loopbackUp(); err != nil {
		return "", err
	}
	server, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return "", err
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			size, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			var query dnsmessage.Message
			if query.Unpack(buffer[:size]) != nil {
				return
			}
			answer, err := answerMessage(query.ID, query.Questions[0].Name.String(), manyAddrs(n), 60)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(answer, from)
		}
	}()
	conn, err := net.Dial("udp", "127.0.0.1:53")
	if err != nil {
		return "", err
	}
	query := dnsmessage.Message{Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName(args[0]), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	packed, err := query.Pack()
	if err != nil {
		return "", err
	}
	if _, err := conn.Write(packed); err != nil {
		return "", err
	}
	if _, err := conn.Read(make([]byte, 4096)); err != nil {
		return "", err
	}
	var dialer net.Dialer
	peer, err := dialer.DialContext(context.Background(), "udp", manyAddrs(1)[0].String()+":443")
	if err != nil {
		return "", err
	}
	return "", peer.Close()
}

// TestKernelDNSMessages holds a question and its answer against each other: who asked is known.
func TestKernelDNSMessages(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	helper := w.run(helperRun{action: "resolve", args: []string{"asked.example.com.", "1"}, flags: unix.CLONE_NEWNET})
	messages := w.await(2, func(r *Record) bool {
		m, ok := r.Payload.(*DNSMessage)
		return ok && m.Name == "asked.example.com"
	})
	if len(messages) != 2 {
		t.Fatalf("%d messages, want 2", len(messages))
	}
	query, answer := messages[0].Payload.(*DNSMessage), messages[1].Payload.(*DNSMessage)
	if query.Answer || !query.Sent || query.Type != "A" || messages[0].Task.PID != helper.pid {
		t.Errorf("asked by %d: %+v", messages[0].Task.PID, *query)
	}
	if !answer.Answer || answer.Sent || answer.ID != query.ID || answer.LocalPort != query.LocalPort || answer.Peer != query.Peer {
		t.Errorf("the answer to %+v\nis %+v", *query, *answer)
	}
	if answer.Code != "NOERROR" || len(answer.Records) != 2 || answer.Records[0].Type != "CNAME" || answer.Records[0].Data != "alias.example.net" {
		t.Errorf("got %s %+v", answer.Code, answer.Records)
	}
	if query.Peer != netip.MustParseAddrPort("127.0.0.1:53") || messages[1].Task.PID != 0 {
		t.Errorf("got server %s, task %d", query.Peer, messages[1].Task.PID)
	}
}

// TestKernelDNSOverTCP has both directions of a connection to a name server shown.
func TestKernelDNSOverTCP(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	helper := w.run(helperRun{action: "resolve by TCP", flags: unix.CLONE_NEWNET})
	said := map[bool][]byte{}
	for _, r := range w.await(2, func(r *Record) bool {
		_, ok := r.Payload.(*Stream)
		return ok && r.Task.PID == helper.pid
	}) {
		s := r.Payload.(*Stream)
		if s.Peer != netip.MustParseAddrPort("127.0.0.1:53") || int(s.Offset) > len(said[s.Sent]) {
			t.Fatalf("got %d bytes at %d of %+v", len(s.Bytes), s.Offset, s.Ends)
		}
		said[s.Sent] = append(said[s.Sent][:s.Offset], s.Bytes...)
	}
	for sent, want := range map[bool]DNSMessage{
		true:  {ID: 7, Type: "A"},
		false: {ID: 7, Type: "A", Answer: true, Code: "NOERROR"},
	} {
		bytes := said[sent]
		if len(bytes) < 2 || len(bytes) != 2+(int(bytes[0])<<8|int(bytes[1])) {
			t.Fatalf("sent %v: %d bytes are shown", sent, len(bytes))
		}
		got := ParseDNS(bytes[2:])
		if got.Name != "tcp.example.com" || got.ID != want.ID || got.Type != want.Type || got.Answer != want.Answer || got.Code != want.Code {
			t.Errorf("sent %v: got %+v, want %+v", sent, got, want)
		}
		if !sent && len(got.Answers) != 60 {
			t.Errorf("%d addresses, want 60", len(got.Answers))
		}
	}
}

// helperResolveByTCP asks a name server of its own by TCP. The answer comes in pieces.
func helperResolveByTCP([]string) (string, error) {
	if err := loopbackUp(); err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:53")
	if err != nil {
		return "", err
	}
	query := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("tcp.example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	asked, err := query.Pack()
	if err != nil {
		return "", err
	}
	answer, err := answerMessage(7, "tcp.example.com.", manyAddrs(60), 60)
	if err != nil {
		return "", err
	}
	framed := func(message []byte) []byte {
		return append([]byte{byte(len(message) >> 8), byte(len(message))}, message...)
	}
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 512))
		for piece := range slices.Chunk(framed(answer), 100) {
			_, _ = conn.Write(piece)
		}
		_ = conn.Close()
	}()
	conn, err := net.Dial("tcp", "127.0.0.1:53")
	if err != nil {
		return "", err
	}
	if _, err := conn.Write(framed(asked)); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return "", err
	}
	return "", conn.Close()
}

func TestParseDNS(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	good, err := answerMessage(7, "API.Example.com.", addrs, 30)
	if err != nil {
		t.Fatal(err)
	}
	got := ParseDNS(good)
	if got.Name != "api.example.com" || len(got.Answers) != 2 || got.Answers[1].Addr != addrs[1] || got.Answers[0].TTL != 30*time.Second {
		t.Errorf("got %+v", got)
	}
	if got := ParseDNS(good[:len(good)-1]); len(got.Answers) != 1 {
		t.Errorf("cut in the second address: got %+v, want the first", got)
	}
	query := slices.Clone(good)
	query[2] &^= 0x80
	if got := ParseDNS(query); got.Name != "api.example.com" || got.Answer || got.Answers != nil {
		t.Errorf("a query: got %+v", got)
	}
	refused := slices.Clone(good)
	refused[3] |= 5
	if got := ParseDNS(refused); got.Code != "REFUSED" || got.Answers != nil {
		t.Errorf("a refusal: got %+v", got)
	}
	many, err := answerMessage(7, "many.example.com.", manyAddrs(200), 30)
	if err != nil {
		t.Fatal(err)
	}
	if got := ParseDNS(many); len(got.Answers) > maxNameAnswers || len(got.Records) != maxDNSRecords {
		t.Errorf("got %d answers of %d records, want no more than %d", len(got.Answers), len(got.Records), maxDNSRecords)
	}
	if got := ParseDNS([]byte("no message")); got.Name != "" || got.Answer {
		t.Errorf("what is no message: got %+v", got)
	}
}

func FuzzDecodeDNS(f *testing.F) {
	good, err := answerMessage(7, "API.Example.com.", manyAddrs(3), 30)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(dnsKindMessage), recordBytes(f, &dnsPacket{Size: uint32(len(good))}, good))
	f.Add(uint16(dnsKindMessage), recordBytes(f, &dnsPacket{Size: ^uint32(0)}, good))
	f.Add(uint16(dnsKindStream), recordBytes(f, &dnsPacket{Size: 4, Offset: 3}, []byte("GET ")))
	f.Add(uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		r := Record{memory: &memory{}}
		if err := decodeDNS(&r, kind, data); err != nil {
			return
		}
		m, ok := r.Payload.(*DNSMessage)
		if !ok {
			return
		}
		if len(m.Name) > 1024 || len(m.Answers) > maxNameAnswers || len(m.Records) > maxDNSRecords {
			t.Errorf("got a name of %d bytes with %d addresses", len(m.Name), len(m.Answers))
		}
		for _, a := range m.Answers {
			if !a.Addr.IsValid() {
				t.Error("an address is not valid")
			}
		}
	})
}
