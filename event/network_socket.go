// SPDX-License-Identifier: Apache-2.0

package event

import (
	"net/netip"
	"strconv"
)

// Kinds of events of sockets.
const (
	// KindNetworkSocket is the making of a socket of a family that sees or reaches what others do not (raw, packet,
	// netlink, vsock), or a connect of one that is not IP, such as a unix socket.
	KindNetworkSocket Kind = "watchglass.network.socket"
	// KindNetworkBind is a socket that took an address.
	KindNetworkBind Kind = "watchglass.network.bind"
	// KindNetworkListen is a socket that waits for connections.
	KindNetworkListen Kind = "watchglass.network.listen"
	// KindNetworkAccept is a connection that was accepted.
	KindNetworkAccept Kind = "watchglass.network.accept"
)

// SocketOperation is what a NetworkSocket did.
type SocketOperation string

// The operations.
const (
	SocketCreate  SocketOperation = "socket"
	SocketBind    SocketOperation = "bind"
	SocketListen  SocketOperation = "listen"
	SocketAccept  SocketOperation = "accept"
	SocketConnect SocketOperation = "connect"
)

// NetworkSocket is one call on a socket.
type NetworkSocket struct {
	// Operation is what was done; the event's kind follows from it.
	Operation SocketOperation
	// Family is the address family ("inet", "unix", "packet"), Type the socket's type ("stream", "raw").
	Family, Type string
	// Protocol is the number of the protocol within the family; for packet sockets an EtherType.
	Protocol uint16
	// Local and Peer are the ends of an IP socket; invalid where there is none.
	Local, Peer netip.AddrPort
	// Name is the address of other sockets: a path, "@name" for an abstract unix socket, "cid:port" for vsock.
	Name string
	// PeerPID is the process that made the other end of a unix socket, in the initial PID namespace; 0 when not known.
	PeerPID uint32
	// Backlog is what listen asked for.
	Backlog uint32
	// Claimed is true when the address is the caller's word: the call failed, or the family's sockets do not tell.
	Claimed bool
	// Error is the error number of a failure, 0 for success.
	Error Errno
	// Via is ViaURing when it came through io_uring; Unfinished is then true when the program asked for no word of its
	// success, so that there is no result.
	Via        Via
	Unfinished bool
}

// Kind implements Payload.
func (n *NetworkSocket) Kind() Kind {
	switch n.Operation {
	case SocketBind:
		return KindNetworkBind
	case SocketListen:
		return KindNetworkListen
	case SocketAccept:
		return KindNetworkAccept
	case SocketCreate, SocketConnect:
		return KindNetworkSocket
	}
	return KindNetworkSocket
}

// Severity implements Payload: DEBUG for what every look-up of a name or user makes, WARN for what was refused.
func (n *NetworkSocket) Severity() Severity {
	switch {
	case n.Error == 1 || n.Error == 13: // EPERM, EACCES
		return SeverityWarn
	case n.Family == "netlink", n.Family == "unix" && (n.Error != 0 || n.Operation != SocketConnect),
		n.Operation == SocketBind:
		return SeverityDebug
	default:
		return SeverityInfo
	}
}

// AppendAttributes implements Payload.
func (n *NetworkSocket) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{SocketOperationKey, String(string(n.Operation))},
		Attribute{SocketFamily, String(n.Family)})
	dst = appendString(dst, SocketType, n.Type)
	if n.Protocol != 0 {
		dst = append(dst, Attribute{SocketProtocol, Int(int64(n.Protocol))})
	}
	if n.Local.IsValid() {
		dst = append(dst,
			Attribute{NetworkLocalAddress, addressValue(n.Local.Addr())},
			Attribute{NetworkLocalPort, Int(int64(n.Local.Port()))})
	}
	if n.Peer.IsValid() {
		dst = append(dst,
			Attribute{NetworkPeerAddress, addressValue(n.Peer.Addr())},
			Attribute{NetworkPeerPort, Int(int64(n.Peer.Port()))},
			Attribute{PeerScope, String(string(ScopeOf(n.Peer.Addr())))})
	}
	dst = appendString(dst, SocketName, n.Name)
	if n.PeerPID != 0 {
		dst = append(dst, Attribute{SocketPeerPID, Int(int64(n.PeerPID))})
	}
	if n.Operation == SocketListen {
		dst = append(dst, Attribute{SocketBacklog, Int(int64(n.Backlog))})
	}
	dst = appendTrue(dst, NetworkPeerClaimed, n.Claimed)
	dst = appendString(dst, ErrorType, n.Error.Name())
	dst = appendString(dst, ViaKey, string(n.Via))
	return appendTrue(dst, Unfinished, n.Unfinished)
}

// AppendBody implements Payload.
func (n *NetworkSocket) AppendBody(dst []byte) []byte {
	if n.Operation == SocketConnect {
		dst = append(dst, "connect "...)
	}
	dst = append(dst, n.Family...)
	if n.Type != "" {
		dst = append(dst, ' ')
		dst = append(dst, n.Type...)
	}
	if n.Operation == SocketCreate && n.Protocol != 0 {
		dst = append(dst, " protocol "...)
		dst = strconv.AppendUint(dst, uint64(n.Protocol), 10)
	}
	if n.Local.IsValid() {
		dst = append(dst, ' ')
		dst = n.Local.AppendTo(dst)
	}
	if n.Peer.IsValid() {
		dst = append(dst, " from "...)
		dst = n.Peer.AppendTo(dst)
	}
	if n.Name != "" {
		dst = append(dst, ' ')
		dst = append(dst, n.Name...)
	}
	return appendFailure(dst, n.Error)
}

// KindNetworkRequest is what the first bytes of a connection say whom they mean: TLS, or HTTP/1.
const KindNetworkRequest Kind = "watchglass.network.request"

// NetworkRequest is what a connection's first bytes say. It is the program's word: the peer may be another one.
type NetworkRequest struct {
	Transport   Transport
	Peer, Local netip.AddrPort
	// Protocol is "tls", "quic" or "http".
	Protocol string
	// Name is the server that is meant: the name of TLS's SNI, HTTP's Host, or what a proxy is asked for (CONNECT, or a
	// whole URL); Source is which of them: sni, http_host, proxy. Both are "" where there is none.
	Name, Source string
	// ALPN is the protocols that TLS offers to speak.
	ALPN []string
	// Method is HTTP's method.
	Method string
	// Via is ViaURing when the connection was made, or that was said, through io_uring.
	Via Via
}

// Kind implements Payload.
func (*NetworkRequest) Kind() Kind { return KindNetworkRequest }

// Severity implements Payload.
func (*NetworkRequest) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (n *NetworkRequest) AppendAttributes(dst []Attribute) []Attribute {
	dst = appendPeer(dst, n.Transport, n.Peer, n.Local, n.Name, n.Source)
	dst = append(dst, Attribute{NetworkProtocolName, String(n.Protocol)})
	dst = appendStrings(dst, TLSNextProtocols, n.ALPN)
	dst = appendString(dst, HTTPRequestMethod, n.Method)
	return appendString(dst, ViaKey, string(n.Via))
}

// AppendBody implements Payload.
func (n *NetworkRequest) AppendBody(dst []byte) []byte {
	dst = append(dst, n.Protocol...)
	if n.Method != "" {
		dst = append(dst, ' ')
		dst = append(dst, n.Method...)
	}
	dst = append(dst, ' ')
	if n.Name == "" {
		dst = append(dst, "without a name"...)
	}
	dst = append(dst, n.Name...)
	dst = append(dst, " at "...)
	return n.Peer.AppendTo(dst)
}

// PeerNamed is a payload with a peer: the collector says under which name it was found.
type PeerNamed interface {
	// PeerAddr is the peer's address.
	PeerAddr() netip.Addr
	// NamePeer sets the peer's name and where it came from.
	NamePeer(name, source string)
}

// PeerAddr implements PeerNamed.
func (n *NetworkConnect) PeerAddr() netip.Addr { return n.Peer.Addr() }

// NamePeer implements PeerNamed.
func (n *NetworkConnect) NamePeer(name, source string) { n.PeerName, n.PeerNameSource = name, source }

// PeerAddr implements PeerNamed.
func (n *NetworkFlow) PeerAddr() netip.Addr { return n.Peer.Addr() }

// NamePeer implements PeerNamed. Who connected from outside is not who was looked up.
func (n *NetworkFlow) NamePeer(name, source string) {
	if !n.Inbound {
		n.PeerName, n.PeerNameSource = name, source
	}
}
