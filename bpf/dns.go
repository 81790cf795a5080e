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
	ends := Ends{Peer: addrPort(head.Peer.Address, head.Peer.Port), LocalPort: head.Port, Sent: head.Sent != 0, Via: viaRing(head.Ring != 0)}
	if kind == dnsKindStream {
		r.Payload = &Stream{Ends: ends, ID: head.Stream, Offset: head.Offset, Bytes: append([]byte(nil), bytes...)}
		return nil
	}
	if kind == dnsKindDatagram {
		r.Payload = &Datagram{Ends: ends, Socket: head.Stream, Number: head.Offset, Bytes: append([]byte(nil), bytes...)}
		return nil
	}
	message := keep(r.memory, &r.memory.messages, DNSMessage{})
	r.memory.parseDNS(bytes, message)
	message.Ends, message.Transport = ends, event.TransportUDP
	r.Payload = message
	return nil
}

// ParseDNS reads a message in wire form: its first question and its answers. CNAMEs between the name and the
// addresses are passed over: the name that was asked for is what the program meant. One that does not parse
// has no name.
func ParseDNS(message []byte) DNSMessage {
	var d DNSMessage
	m := memory{paths: texts{none: true}}
	m.parseDNS(message, &d)
	return d
}

// parseDNS is ParseDNS into an empty message.
func (m *memory) parseDNS(message []byte, d *DNSMessage) {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil {
		return
	}
	question, err := parser.Question()
	if err != nil || parser.SkipAllQuestions() != nil {
		return
	}
	d.ID, d.Type, d.Name = header.ID, typeName(question.Type), m.nameText(&question.Name)
	if !header.Response {
		return
	}
	d.Answer, d.Code = true, codeName(header.RCode)
	m.answers, m.answered = m.answers[:0], m.answered[:0]
	for len(m.answered) < maxDNSRecords {
		if err := m.answer(&parser); err != nil {
			break // the end, or what follows does not parse: what came before does
		}
	}
	d.Records = m.dnsRecords.Of(m.answered)
	if header.RCode == dnsmessage.RCodeSuccess {
		d.Answers = m.addresses.Of(m.answers)
	}
	clear(m.answered) // its texts may be long
}

// answer reads the next record of the answer section. Those that nearly all are make no detour by the library's general
// form, which allocates.
func (m *memory) answer(parser *dnsmessage.Parser) error {
	header, err := parser.AnswerHeader()
	if err != nil {
		return err
	}
	record := event.DNSRecord{
		Name: m.nameText(&header.Name), Type: typeName(header.Type), TTL: time.Duration(header.TTL) * time.Second,
	}
	switch header.Type {
	case dnsmessage.TypeA:
		body, err := parser.AResource()
		if err != nil {
			return err
		}
		m.takeAddress(&record, netip.AddrFrom4(body.A))
	case dnsmessage.TypeAAAA:
		body, err := parser.AAAAResource()
		if err != nil {
			return err
		}
		m.takeAddress(&record, netip.AddrFrom16(body.AAAA).Unmap())
	case dnsmessage.TypeCNAME:
		body, err := parser.CNAMEResource()
		if err != nil {
			return err
		}
		record.Data = m.nameText(&body.CNAME)
	default:
		resource, err := parser.Answer()
		if err != nil {
			return err
		}
		record.Data = m.dataText(&resource)
	}
	if len(record.Data) > maxDNSData {
		record.Data = record.Data[:maxDNSData]
	}
	m.answered = append(m.answered, record)
	return nil
}

// dataText is the data of a record of the rarer types.
func (m *memory) dataText(resource *dnsmessage.Resource) string {
	switch body := resource.Body.(type) {
	case *dnsmessage.NSResource:
		return m.nameText(&body.NS)
	case *dnsmessage.PTRResource:
		return m.nameText(&body.PTR)
	case *dnsmessage.MXResource:
		return strconv.Itoa(int(body.Pref)) + " " + m.nameText(&body.MX)
	case *dnsmessage.SRVResource:
		return fmt.Sprintf("%d %d %d %s", body.Priority, body.Weight, body.Port, m.nameText(&body.Target))
	case *dnsmessage.SOAResource:
		return fmt.Sprintf("%s %s %d", m.nameText(&body.NS), m.nameText(&body.MBox), body.Serial)
	case *dnsmessage.TXTResource:
		return strconv.Quote(strings.Join(body.TXT, ""))
	case *dnsmessage.UnknownResource:
		return fmt.Sprintf("\\# %d %x", len(body.Data), body.Data[:min(len(body.Data), maxDNSData/2)])
	default:
		return ""
	}
}

func (m *memory) takeAddress(record *event.DNSRecord, addr netip.Addr) {
	record.Data = m.addr(addr)
	if len(m.answers) < maxNameAnswers {
		m.answers = append(m.answers, NameAnswer{Addr: addr, TTL: record.TTL})
	}
}

// nameText is a name in lower case, without its final dot.
func (m *memory) nameText(name *dnsmessage.Name) string { return m.lower(name.Data[:name.Length]) }

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
