// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// Kinds of the network probe's records (enum network_kind).
const (
	networkKindConnect = 1
	networkKindFlow    = 2
)

// Flags of a connect (enum connect_flags).
const (
	connectAbandoned = 1 << iota
	connectClaimed
)

// decodeNetwork decodes a record of the network probe.
func decodeNetwork(r *Record, kind uint16, data []byte) error {
	switch kind {
	case networkKindConnect:
		return decodeConnect(r, data)
	case networkKindFlow:
		return decodeFlow(r, data)
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
	r.Payload = &event.NetworkConnect{
		Transport: transport,
		Peer:      addrPort(connect.Peer.Address, connect.Peer.Port),
		Local:     localAddrPort(connect.Local.Address, connect.Local.Port),
		Error:     event.Errno(connect.Error),
		Claimed:   connect.Flags&connectClaimed != 0,
		Abandoned: connect.Flags&connectAbandoned != 0,
		Latency:   time.Duration(connect.Latency),
	}
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
	r.Payload = &event.NetworkFlow{
		Transport: transport,
		Peer:      addrPort(flow.Peer.Address, flow.Peer.Port),
		Local:     localAddrPort(flow.Local.Address, flow.Local.Port),
		Sent:      flow.Sent,
		Received:  flow.Received,
		Duration:  time.Duration(flow.Duration),
	}
	return nil
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
