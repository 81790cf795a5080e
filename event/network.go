// SPDX-License-Identifier: Apache-2.0

package event

import (
	"net/netip"
	"time"
)

// Kinds of network events.
const (
	// KindNetworkConnect is a connect, successful, refused or denied; also the first datagram to a destination.
	KindNetworkConnect Kind = "watchglass.network.connect"
	// KindNetworkFlow is what went over a TCP connection, made or accepted: at its end, and while it goes on so far.
	KindNetworkFlow Kind = "watchglass.network.flow"
)

// Transport is the transport protocol.
type Transport string

// The transports.
const (
	TransportTCP Transport = "tcp"
	TransportUDP Transport = "udp"
)

// Scope is where a peer is.
type Scope string

// The scopes, from near to far.
const (
	ScopeLoopback    Scope = "loopback"
	ScopeLinkLocal   Scope = "link_local"
	ScopeMetadata    Scope = "metadata"
	ScopePrivate     Scope = "private"
	ScopeMulticast   Scope = "multicast"
	ScopeUnspecified Scope = "unspecified"
	ScopePublic      Scope = "public"
)

// ScopeOf classifies an address. Cloud metadata services have their own scope, since they hand out credentials.
func ScopeOf(addr netip.Addr) Scope {
	addr = addr.Unmap()
	switch {
	case addr.Is4() && addr.As4() == [4]byte{169, 254, 169, 254},
		addr.Is4() && addr.As4() == [4]byte{169, 254, 170, 2},
		addr.Is4() && addr.As4() == [4]byte{100, 100, 100, 200},
		addr.Is6() && addr.As16() == [16]byte{0xfd, 0, 0x0e, 0xc2, 14: 0x02, 15: 0x54}:
		return ScopeMetadata
	case addr.IsLoopback():
		return ScopeLoopback
	case addr.IsUnspecified():
		return ScopeUnspecified
	case addr.IsMulticast():
		return ScopeMulticast
	case addr.IsLinkLocalUnicast():
		return ScopeLinkLocal
	case addr.IsPrivate(), addr.Is4() && addr.As4()[0] == 100 && addr.As4()[1]&0xc0 == 64:
		return ScopePrivate
	default:
		return ScopePublic
	}
}

// NetworkConnect is one attempt to reach a peer.
type NetworkConnect struct {
	Transport Transport
	// Peer is from the kernel's own copy of the address. V4-mapped addresses are unmapped.
	Peer netip.AddrPort
	// Local is the local end; invalid when not bound.
	Local netip.AddrPort
	// PeerName is the peer's name and PeerNameSource where it came from; "" when not known.
	PeerName, PeerNameSource string
	// Error is the error number of a failure, 0 for success or, with Abandoned, for no result.
	Error Errno
	// Claimed is true when Peer is the caller's word: seccomp or an LSM refused before the kernel took its copy.
	Claimed bool
	// Abandoned is true when the program closed the socket before there was a result.
	Abandoned bool
	// Latency is the time to the result; 0 when there is none (UDP).
	Latency time.Duration
	// Via is ViaURing when it came through io_uring.
	Via Via
}

// Kind implements Payload.
func (*NetworkConnect) Kind() Kind { return KindNetworkConnect }

// Severity implements Payload: EPERM and EACCES mean a policy refused it.
func (n *NetworkConnect) Severity() Severity {
	if n.Error == 1 || n.Error == 13 {
		return SeverityWarn
	}
	return SeverityInfo
}

// AppendAttributes implements Payload.
func (n *NetworkConnect) AppendAttributes(dst []Attribute) []Attribute {
	dst = appendPeer(dst, n.Transport, n.Peer, n.Local, n.PeerName, n.PeerNameSource)
	if n.Claimed {
		dst = append(dst, Attribute{NetworkPeerClaimed, Bool(true)})
	}
	dst = appendString(dst, ErrorType, n.Error.Name())
	if n.Abandoned {
		dst = append(dst, Attribute{NetworkAbandoned, Bool(true)})
	}
	if n.Latency > 0 {
		dst = append(dst, Attribute{NetworkLatency, Seconds(n.Latency)})
	}
	return appendString(dst, ViaKey, string(n.Via))
}

// AppendBody implements Payload.
func (n *NetworkConnect) AppendBody(dst []byte) []byte {
	dst = appendPeerBody(dst, n.Transport, n.Peer, n.PeerName)
	switch {
	case n.Error != 0:
		dst = append(dst, ": "...)
		dst = append(dst, n.Error.Name()...)
	case n.Abandoned:
		dst = append(dst, ": abandoned"...)
	}
	return dst
}

// NetworkFlow is a TCP connection that was established from inside the sandbox, or accepted there: when it ends, and now
// and then while it goes on.
type NetworkFlow struct {
	Transport Transport
	// Peer, Local, PeerName and PeerNameSource are as in NetworkConnect.
	Peer, Local              netip.AddrPort
	PeerName, PeerNameSource string
	// Sent and Received are payload bytes since it began.
	Sent, Received uint64
	// ToldSent and ToldReceived are what of them events before have told: who sums up takes it off.
	ToldSent, ToldReceived uint64
	// SentPackets and ReceivedPackets are TCP segments, those without payload included; Retransmits is how many were
	// sent again.
	SentPackets, ReceivedPackets, Retransmits uint32
	// RTT is the smoothed round-trip time; 0 when it was never measured.
	RTT time.Duration
	// Duration is from the connect to the close, or until now.
	Duration time.Duration
	// End is how it ended: local, peer (who closed first), reset, timeout, aborted; "" when not known.
	End string
	// Continuing is true when it goes on.
	Continuing bool
	// Inbound is true when the peer connected. The process is then who accepted it; none when nobody did.
	Inbound bool
	// Via is ViaURing when it was made or accepted, or some of it went, through io_uring.
	Via Via
}

// Kind implements Payload.
func (*NetworkFlow) Kind() Kind { return KindNetworkFlow }

// Severity implements Payload.
func (*NetworkFlow) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (n *NetworkFlow) AppendAttributes(dst []Attribute) []Attribute {
	dst = appendPeer(dst, n.Transport, n.Peer, n.Local, n.PeerName, n.PeerNameSource)
	dst = append(dst,
		Attribute{NetworkBytesSent, Int(int64(n.Sent))},
		Attribute{NetworkBytesReceived, Int(int64(n.Received))},
		Attribute{NetworkPacketsSent, Int(int64(n.SentPackets))},
		Attribute{NetworkPacketsReceived, Int(int64(n.ReceivedPackets))},
		Attribute{NetworkRetransmits, Int(int64(n.Retransmits))},
		Attribute{NetworkDuration, Seconds(n.Duration)})
	if n.RTT > 0 {
		dst = append(dst, Attribute{NetworkRTT, Seconds(n.RTT)})
	}
	dst = appendTrue(dst, NetworkContinuing, n.Continuing)
	dst = appendTrue(dst, NetworkInbound, n.Inbound)
	dst = appendString(dst, NetworkEndReason, n.End)
	return appendString(dst, ViaKey, string(n.Via))
}

// AppendBody implements Payload.
func (n *NetworkFlow) AppendBody(dst []byte) []byte {
	if n.Inbound {
		dst = append(dst, "from "...)
	}
	dst = appendPeerBody(dst, n.Transport, n.Peer, n.PeerName)
	dst = append(dst, " sent "...)
	dst = AppendBytes(dst, n.Sent)
	dst = append(dst, ", received "...)
	dst = AppendBytes(dst, n.Received)
	dst = append(dst, ", "...)
	dst = append(dst, roundDuration(n.Duration).String()...)
	if n.Continuing {
		dst = append(dst, " so far"...)
	}
	switch n.End {
	case "reset", "timeout", "aborted":
		dst = append(dst, ", "...)
		dst = append(dst, n.End...)
	}
	return dst
}

func appendPeer(dst []Attribute, tr Transport, peer, local netip.AddrPort, name, source string) []Attribute {
	dst = append(dst,
		Attribute{NetworkTransport, String(string(tr))},
		Attribute{NetworkType, String(networkType(peer.Addr()))},
		Attribute{NetworkPeerAddress, addressValue(peer.Addr())},
		Attribute{NetworkPeerPort, Int(int64(peer.Port()))},
		Attribute{PeerScope, String(string(ScopeOf(peer.Addr())))})
	if local.IsValid() {
		dst = append(dst,
			Attribute{NetworkLocalAddress, addressValue(local.Addr())},
			Attribute{NetworkLocalPort, Int(int64(local.Port()))})
	}
	dst = appendString(dst, ServerAddress, name)
	return appendString(dst, ServerAddressSource, source)
}

func networkType(addr netip.Addr) string {
	if addr.Unmap().Is4() {
		return "ipv4"
	}
	return "ipv6"
}

func appendPeerBody(dst []byte, tr Transport, peer netip.AddrPort, name string) []byte {
	dst = append(dst, tr...)
	dst = append(dst, ' ')
	dst = peer.AppendTo(dst)
	if name != "" {
		dst = append(dst, " ("...)
		dst = append(dst, name...)
		dst = append(dst, ')')
	}
	return dst
}
