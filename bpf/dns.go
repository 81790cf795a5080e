// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/watchglass/watchglass/event"
)

// Kinds of the packet probe's records (enum dns_kind).
const (
	dnsKindMessage = 1
	dnsKindStream  = 2
	// dnsKindDatagram is one that may begin a QUIC connection.
	dnsKindDatagram = 3
)

// Bounds of what is taken from one message.
const (
	maxNameAnswers = 64
	maxDNSRecords  = 64
	maxDNSData     = 512
)

// decodeDNS decodes a record of the packet probe. What it holds is the network's word: a message that does not
// parse becomes one without a name, not an error.
func decodeDNS(r *Record, kind uint16, data []byte) error {
	if kind != dnsKindMessage && kind != dnsKindStream && kind != dnsKindDatagram {
		return fmt.Errorf("%w: kind %d", errUnknown, kind)
	}
	head, rest, err := view[dnsPacket](data)
	if err != nil {
		return err
	}
	bytes, _, err := take(rest, head.Size)
	if err != nil {
		return err
	}
	ends := Ends{Peer: addrPort(head.Peer.Address, head.Peer.Port), LocalPort: head.Port, Sent: head.Sent != 0}
	if kind == dnsKindStream {
		r.Payload = &Stream{Ends: ends, ID: head.Stream, Offset: head.Offset, Bytes: append([]byte(nil), bytes...)}
		return nil
	}
	if kind == dnsKindDatagram {
		r.Payload = &Datagram{Ends: ends, Socket: head.Stream, Number: head.Offset, Bytes: append([]byte(nil), bytes...)}
		return nil
	}
	message := ParseDNS(bytes)
	message.Ends, message.Transport = ends, event.TransportUDP
	r.Payload = &message
	return nil
}

// ParseDNS reads a message in wire form: its first question and its answers. CNAMEs between the name and the
// addresses are passed over: the name that was asked for is what the program meant. One that does not parse
// has no name.
func ParseDNS(message []byte) DNSMessage {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil {
		return DNSMessage{}
	}
	question, err := parser.Question()
	if err != nil || parser.SkipAllQuestions() != nil {
		return DNSMessage{}
	}
	m := DNSMessage{ID: header.ID, Type: typeName(question.Type)}
	m.Name = nameText(question.Name)
	if !header.Response {
		return m
	}
	m.Answer, m.Code = true, codeName(header.RCode)
	for len(m.Records) < maxDNSRecords {
		resource, err := parser.Answer()
		if err != nil {
			break // the end, or what follows does not parse: what came before does
		}
		m.add(&resource)
	}
	if header.RCode != dnsmessage.RCodeSuccess {
		m.Answers = nil
	}
	return m
}

func (m *DNSMessage) add(resource *dnsmessage.Resource) {
	ttl := time.Duration(resource.Header.TTL) * time.Second
	record := event.DNSRecord{Name: nameText(resource.Header.Name), Type: typeName(resource.Header.Type), TTL: ttl}
	switch body := resource.Body.(type) {
	case *dnsmessage.AResource:
		m.address(&record, netip.AddrFrom4(body.A))
	case *dnsmessage.AAAAResource:
		m.address(&record, netip.AddrFrom16(body.AAAA).Unmap())
	case *dnsmessage.CNAMEResource:
		record.Data = nameText(body.CNAME)
	case *dnsmessage.NSResource:
		record.Data = nameText(body.NS)
	case *dnsmessage.PTRResource:
		record.Data = nameText(body.PTR)
	case *dnsmessage.MXResource:
		record.Data = strconv.Itoa(int(body.Pref)) + " " + nameText(body.MX)
	case *dnsmessage.SRVResource:
		record.Data = fmt.Sprintf("%d %d %d %s", body.Priority, body.Weight, body.Port, nameText(body.Target))
	case *dnsmessage.SOAResource:
		record.Data = fmt.Sprintf("%s %s %d", nameText(body.NS), nameText(body.MBox), body.Serial)
	case *dnsmessage.TXTResource:
		record.Data = strconv.Quote(strings.Join(body.TXT, ""))
	case *dnsmessage.UnknownResource:
		record.Data = fmt.Sprintf("\\# %d %x", len(body.Data), body.Data[:min(len(body.Data), maxDNSData/2)])
	}
	if len(record.Data) > maxDNSData {
		record.Data = record.Data[:maxDNSData]
	}
	m.Records = append(m.Records, record)
}

func (m *DNSMessage) address(record *event.DNSRecord, addr netip.Addr) {
	record.Data = addr.String()
	if len(m.Answers) < maxNameAnswers {
		m.Answers = append(m.Answers, NameAnswer{Addr: addr, TTL: record.TTL})
	}
}

func nameText(name dnsmessage.Name) string {
	return strings.ToLower(strings.TrimSuffix(name.String(), "."))
}

// typeName is the type as zone files write it; types that neither the library nor this knows have their number.
func typeName(t dnsmessage.Type) string {
	const svcb, https = 64, 65
	name, known := strings.CutPrefix(t.String(), "Type")
	switch {
	case known:
		return name
	case t == svcb:
		return "SVCB"
	case t == https:
		return "HTTPS"
	default:
		return "TYPE" + name
	}
}

func codeName(code dnsmessage.RCode) string {
	names := [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}
	if int(code) < len(names) {
		return names[code]
	}
	return "RCODE" + strconv.Itoa(int(code))
}
