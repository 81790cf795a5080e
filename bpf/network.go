// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// Kinds of the network probe's records (enum network_kind).
const (
	networkKindConnect = 1
	networkKindFlow    = 2
	networkKindSocket  = 3
)

// decodeNetwork decodes a record of the network probe.
func decodeNetwork(r *Record, kind uint16, data []byte) error {
	switch kind {
	case networkKindConnect:
		return decodeConnect(r, data)
	case networkKindFlow:
		return decodeFlow(r, data)
	case networkKindSocket:
		return decodeSocket(r, data)
	default:
		return fmt.Errorf("%w: kind %d", errUnknown, kind)
	}
}

func decodeConnect(r *Record, data []byte) error {
	connect, _, err := view[networkConnect](data)
	if err != nil {
		return err
	}
	transport, err := transportOf(connect.Protocol)
	if err != nil {
		return err
	}
	r.Payload = keep(r.memory, &r.memory.connects, event.NetworkConnect{
		Transport: transport,
		Peer:      addrPort(connect.Peer.Address, connect.Peer.Port),
		Local:     localAddrPort(connect.Local.Address, connect.Local.Port),
		Error:     event.Errno(connect.Error),
		Claimed:   connect.Flags&uint8(networkConnectFlagsCONNECT_CLAIMED) != 0,
		Abandoned: connect.Flags&uint8(networkConnectFlagsCONNECT_ABANDONED) != 0,
		Via:       viaRing(connect.Flags&uint8(networkConnectFlagsCONNECT_URING) != 0),
		Latency:   time.Duration(connect.Latency),
	})
	return nil
}

func decodeFlow(r *Record, data []byte) error {
	flow, _, err := view[networkFlow](data)
	if err != nil {
		return err
	}
	transport, err := transportOf(flow.Protocol)
	if err != nil {
		return err
	}
	r.Payload = keep(r.memory, &r.memory.flows, event.NetworkFlow{
		Transport: transport,
		Peer:      addrPort(flow.Peer.Address, flow.Peer.Port),
		Local:     localAddrPort(flow.Local.Address, flow.Local.Port),
		Sent:      flow.Sent,
		Received:  flow.Received,
		// What was told before is part of what is told now.
		ToldSent: min(flow.ToldSent, flow.Sent), ToldReceived: min(flow.ToldReceived, flow.Received),
		Duration: time.Duration(flow.Duration),

		SentPackets: flow.SentPackets, ReceivedPackets: flow.ReceivedPackets, Retransmits: flow.Retransmits,
		RTT: time.Duration(flow.Rtt) * time.Microsecond, End: flowEnd(flow.End),
		Inbound:    flow.Marks&uint8(networkFlowMarksFLOW_INBOUND) != 0,
		Via:        viaRing(flow.Marks&uint8(networkFlowMarksFLOW_URING) != 0),
		Continuing: networkFlowEnd(flow.End) == networkFlowEndFLOW_CONTINUES,
	})
	return nil
}

// flowEnd is how a flow ended (enum flow_end), "" for what is none and for one that goes on.
func flowEnd(end uint8) string {
	ends := [...]string{"", "local", "peer", "reset", "timeout", "aborted", "", "idle"}
	if int(end) < len(ends) {
		return ends[end]
	}
	return ""
}

// viaRing is how an operation reached the kernel, by whether that was through io_uring.
func viaRing(ring bool) event.Via {
	if ring {
		return event.ViaURing
	}
	return ""
}

func decodeSocket(r *Record, data []byte) error {
	s, _, err := view[networkSocketEvent](data)
	if err != nil {
		return err
	}
	operations := [...]event.SocketOperation{
		event.SocketCreate, event.SocketBind, event.SocketListen, event.SocketAccept, event.SocketConnect,
	}
	if s.Operation < 1 || int(s.Operation) > len(operations) {
		return fmt.Errorf("%w: socket operation %d", errUnknown, s.Operation)
	}
	if int(s.NameSize) > len(s.Name) {
		return fmt.Errorf("%w: a name of %d bytes", errLength, s.NameSize)
	}
	r.Payload = keep(r.memory, &r.memory.sockets, event.NetworkSocket{
		Operation: operations[s.Operation-1], Family: familyName(s.Family), Type: socketType(s.Type), Protocol: s.Protocol,
		Local: boundAddrPort(s.Local.Address, s.Local.Port), Peer: localAddrPort(s.Peer.Address, s.Peer.Port),
		Name: socketName(r.memory, &s), PeerPID: s.PeerPid, Backlog: s.Backlog,
		Claimed: s.Flags&uint32(networkSocketMarksSOCKET_CLAIMED) != 0, Error: event.Errno(s.Error),
		Via:        viaRing(s.Flags&uint32(networkSocketMarksSOCKET_URING) != 0),
		Unfinished: s.Flags&uint32(networkSocketMarksSOCKET_UNFINISHED) != 0,
	})
	return nil
}

// socketName is the name of a socket that is not IP.
func socketName(m *memory, s *networkSocketEvent) string {
	name := s.Name[:s.NameSize]
	switch {
	case s.Family == unix.AF_VSOCK && (s.Cid != 0 || s.Port != 0):
		return strconv.FormatUint(uint64(s.Cid), 10) + ":" + strconv.FormatUint(uint64(s.Port), 10)
	case len(name) > 0 && name[0] == 0:
		return m.prefixed("@", name[1:])
	default:
		return m.text(beforeNUL(name))
	}
}

func familyName(family uint16) string {
	switch family {
	case unix.AF_UNIX:
		return "unix"
	case unix.AF_INET:
		return "inet"
	case unix.AF_INET6:
		return "inet6"
	case unix.AF_NETLINK:
		return "netlink"
	case unix.AF_PACKET:
		return "packet"
	case unix.AF_VSOCK:
		return "vsock"
	case unix.AF_ALG:
		return "alg"
	case unix.AF_XDP:
		return "xdp"
	case unix.AF_BLUETOOTH:
		return "bluetooth"
	case unix.AF_CAN:
		return "can"
	case unix.AF_KEY:
		return "key"
	default:
		return "family_" + strconv.Itoa(int(family))
	}
}

func socketType(kind uint16) string {
	switch kind {
	case unix.SOCK_STREAM:
		return "stream"
	case unix.SOCK_DGRAM:
		return "dgram"
	case unix.SOCK_RAW:
		return "raw"
	case unix.SOCK_SEQPACKET:
		return "seqpacket"
	default:
		return ""
	}
}

// boundAddrPort is addrPort of what a socket is bound to, which may be any address, but not no port.
func boundAddrPort(address [16]uint8, port uint16) netip.AddrPort {
	if port == 0 {
		return netip.AddrPort{}
	}
	return addrPort(address, port)
}

func transportOf(protocol uint8) (event.Transport, error) {
	switch protocol {
	case unix.IPPROTO_TCP:
		return event.TransportTCP, nil
	case unix.IPPROTO_UDP:
		return event.TransportUDP, nil
	default:
		return "", fmt.Errorf("%w: transport protocol %d", errUnknown, protocol)
	}
}

// addrPort makes an endpoint; a v4-mapped address becomes the IPv4 address it is on the wire.
func addrPort(address [16]uint8, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(address).Unmap(), port)
}

// localAddrPort is addrPort, but the zero AddrPort for a socket that is not bound.
func localAddrPort(address [16]uint8, port uint16) netip.AddrPort {
	local := addrPort(address, port)
	if port == 0 || local.Addr().IsUnspecified() {
		return netip.AddrPort{}
	}
	return local
}
