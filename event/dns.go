// SPDX-License-Identifier: Apache-2.0

package event

import (
	"net/netip"
	"strconv"
	"time"
)

// KindDNSQuery is a question to a name server, with its answer when there was one in time.
const KindDNSQuery Kind = "watchglass.dns.query"

// DNSRecord is one resource record of an answer.
type DNSRecord struct {
	// Name is whose record it is, Type its type ("CNAME"), Data what it says in the form of zone files.
	Name, Type, Data string
	TTL              time.Duration
}

// DNSQuery is one question and its answer. The answer is the network's word: anything in the sandbox can forge one.
type DNSQuery struct {
	// Name is the name that was asked for, in lower case, without the final dot; Type is the type of the question.
	Name, Type string
	// Transport and Server are how and where it was asked.
	Transport Transport
	Server    netip.AddrPort
	// Code is the response code ("NOERROR", "NXDOMAIN"); "" when no answer was seen in time.
	Code string
	// Records is all records of the answer section, as many as are kept; Addresses those of them that are addresses.
	Records   DNSRecordList
	Addresses DNSAddressList
	// Latency is from the question to the answer; 0 when one of them was not seen.
	Latency time.Duration
	// Via is ViaURing when the question was sent through io_uring.
	Via Via
}

// Kind implements Payload.
func (*DNSQuery) Kind() Kind { return KindDNSQuery }

// Severity implements Payload.
func (*DNSQuery) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (d *DNSQuery) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{DNSQuestionName, String(d.Name)},
		Attribute{DNSQuestionType, String(d.Type)},
		Attribute{NetworkTransport, String(string(d.Transport))})
	if d.Server.IsValid() {
		dst = append(dst,
			Attribute{NetworkPeerAddress, addressValue(d.Server.Addr())},
			Attribute{NetworkPeerPort, Int(int64(d.Server.Port()))})
	}
	dst = appendString(dst, DNSResponseCode, d.Code)
	if len(d.Addresses) > 0 {
		dst = append(dst, Attribute{DNSAnswers, itemsOf(ValueStrings, &d.Addresses)})
	}
	if len(d.Records) > 0 {
		dst = append(dst, Attribute{DNSRecords, itemsOf(ValueStrings, &d.Records)})
	}
	if d.Latency > 0 {
		dst = append(dst, Attribute{NetworkLatency, Seconds(d.Latency)})
	}
	return appendString(dst, ViaKey, string(d.Via))
}

// DNSAddressList is the addresses of an answer.
type DNSAddressList []netip.Addr

func (l *DNSAddressList) length() int { return len(*l) }

func (l *DNSAddressList) appendItem(dst []byte, i int) []byte { return (*l)[i].AppendTo(dst) }

func (*DNSAddressList) number(int) int64 { return 0 }

// DNSRecordList is the records of an answer.
type DNSRecordList []DNSRecord

func (l *DNSRecordList) length() int { return len(*l) }

func (l *DNSRecordList) appendItem(dst []byte, i int) []byte {
	r := &(*l)[i]
	dst = append(append(dst, r.Name...), ' ')
	dst = strconv.AppendInt(dst, int64(r.TTL/time.Second), 10)
	dst = append(append(append(dst, ' '), r.Type...), ' ')
	return append(dst, r.Data...)
}

func (*DNSRecordList) number(int) int64 { return 0 }

// AppendBody implements Payload.
func (d *DNSQuery) AppendBody(dst []byte) []byte {
	dst = append(dst, d.Type...)
	dst = append(dst, ' ')
	dst = append(dst, d.Name...)
	const most = 4
	for i, addr := range d.Addresses {
		switch i {
		case 0:
			dst = append(dst, " → "...)
		case most:
			return append(dst, ", …"...)
		default:
			dst = append(dst, ", "...)
		}
		dst = addr.AppendTo(dst)
	}
	switch {
	case d.Code == "":
		dst = append(dst, ": no answer"...)
	case d.Code != "NOERROR":
		dst = append(dst, ": "...)
		dst = append(dst, d.Code...)
	}
	return dst
}
