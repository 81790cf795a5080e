// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// NetworkConfig is what users write about destinations.
type NetworkConfig struct {
	// Allow is the allow-list: an address or CIDR prefix, with a port or a range of ports where not
	// all are meant and "tcp/" or "udp/" in front where not both are:
	// "127.0.0.0/8", "10.0.0.0/8:443", "[fd00::]/8", "[fd00::]/8:443", "192.0.2.1:8000-8100", "udp/10.0.0.53:53".
	// Empty means that there is no policy yet: connections are recorded and none is a finding.
	Allow []string `yaml:"allow"`
	// Resolvers is addresses to which DNS (port 53, and 853 for DNS over TLS) is always allowed.
	Resolvers []string `yaml:"resolvers"`
}

// Validate says what is wrong with the configuration, and names the entry.
func (c *NetworkConfig) Validate() error {
	_, err := NewNetwork(c)
	return err
}

var (
	errTransport = errors.New(`what stands before the first "/" must be tcp or udp`)
	errPort      = errors.New("a port is a number from 1 to 65535, a range is first-last")
	errBracket   = errors.New(`an IPv6 address with a port is written "[address]:port" or "[address]/bits:port"`)
	errBits      = errors.New("a prefix length follows the /")
	errHostBits  = errors.New("the prefix has bits set beyond its length")
	errZone      = errors.New("an address with a zone cannot be allowed: zones are names of the sandbox's own interfaces")
)

// destination is one compiled entry.
type destination struct {
	prefix      netip.Prefix
	first, last uint16
	transport   event.Transport // "" is both
}

// Network is the allow-list of destinations. It is immutable.
type Network struct {
	allow     []destination
	resolvers []netip.Addr
}

// NewNetwork compiles the configuration. The error names the entry.
func NewNetwork(cfg *NetworkConfig) (*Network, error) {
	n := &Network{}
	for i, entry := range cfg.Allow {
		d, err := parseDestination(entry)
		if err != nil {
			return nil, fmt.Errorf("network.allow[%d]: %q: %w", i, entry, err)
		}
		n.allow = append(n.allow, d)
	}
	for i, entry := range cfg.Resolvers {
		addr, err := netip.ParseAddr(entry)
		if err != nil {
			return nil, fmt.Errorf("network.resolvers[%d]: %q: %w", i, entry, err)
		}
		n.resolvers = append(n.resolvers, plain(addr))
	}
	return n, nil
}

// Observing says that there is no allow-list: everything is recorded and nothing refused or reported.
func (n *Network) Observing() bool { return len(n.allow) == 0 }

// Allowed says whether the policy lets a sandbox reach peer. While Observing, it lets everything.
func (n *Network) Allowed(transport event.Transport, peer netip.AddrPort) bool {
	if len(n.allow) == 0 {
		return true
	}
	addr, port := plain(peer.Addr()), peer.Port()
	for i := range n.allow {
		d := &n.allow[i]
		if port >= d.first && port <= d.last && d.prefix.Contains(addr) &&
			(d.transport == "" || d.transport == transport) {
			return true
		}
	}
	return n.resolver(addr, port)
}

func (n *Network) resolver(addr netip.Addr, port uint16) bool {
	const dns, dnsOverTLS = 53, 853
	if port != dns && port != dnsOverTLS {
		return false
	}
	return slices.Contains(n.resolvers, addr)
}

// plain is addr as the policy compares it: IPv4 in its own form and without a zone.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// parseDestination parses one entry of the allow-list.
func parseDestination(entry string) (destination, error) {
	d := destination{first: 0, last: 65535}
	rest := entry
	if before, after, ok := strings.Cut(entry, "/"); ok && isWord(before) {
		switch event.Transport(before) {
		case event.TransportTCP, event.TransportUDP:
			d.transport = event.Transport(before)
		default:
			return d, errTransport
		}
		rest = after
	}
	address, bits, ports, err := splitDestination(rest)
	if err != nil {
		return d, err
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return d, err
	}
	if addr.Zone() != "" {
		return d, errZone
	}
	if d.prefix, err = makePrefix(addr, bits); err != nil {
		return d, err
	}
	if ports != "" {
		d.first, d.last, err = parsePorts(ports)
	}
	return d, err
}

// isWord tells "udp" from the start of an address: it has a letter that no address has, or only letters.
func isWord(s string) bool {
	if s == "" || strings.ContainsAny(s, ".:[]") {
		return false
	}
	return strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// splitDestination splits "address[/bits][:ports]", where an IPv6 address with ports is in brackets.
func splitDestination(s string) (address, bits, ports string, err error) {
	if inside, ok := strings.CutPrefix(s, "["); ok {
		address, rest, closed := strings.Cut(inside, "]")
		if !closed {
			return "", "", "", errBracket
		}
		rest, ports, hasPorts := strings.Cut(rest, ":")
		bits, hasBits := strings.CutPrefix(rest, "/")
		if rest != "" && !hasBits || hasBits && bits == "" || hasPorts && ports == "" || !strings.Contains(address, ":") {
			return "", "", "", errBracket
		}
		return address, bits, ports, nil
	}
	if strings.Count(s, ":") > 1 { // a bare IPv6 address: no ports
		address, bits, _ = strings.Cut(s, "/")
		if strings.Contains(bits, ":") {
			return "", "", "", errBracket
		}
		return address, bits, "", nil
	}
	s, ports, hasPorts := strings.Cut(s, ":")
	if hasPorts && ports == "" {
		return "", "", "", errPort
	}
	address, bits, hasBits := strings.Cut(s, "/")
	if hasBits && bits == "" {
		return "", "", "", errBits
	}
	return address, bits, ports, nil
}

// makePrefix makes a prefix; without bits, of the one address. A v4-mapped prefix becomes the IPv4 one it means.
func makePrefix(addr netip.Addr, bits string) (netip.Prefix, error) {
	if bits == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	n, err := strconv.ParseUint(bits, 10, 8)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("prefix length %q: %w", bits, errors.Unwrap(err))
	}
	length := int(n)
	if addr.Is4In6() && length >= 96 {
		addr, length = addr.Unmap(), length-96
	}
	prefix, err := addr.Prefix(length)
	if err != nil {
		return netip.Prefix{}, err
	}
	if prefix.Addr() != addr {
		return netip.Prefix{}, errHostBits
	}
	return prefix, nil
}

func parsePorts(s string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(s, "-")
	low, err := strconv.ParseUint(from, 10, 16)
	if err != nil || low == 0 {
		return 0, 0, errPort
	}
	if !isRange {
		return uint16(low), uint16(low), nil
	}
	high, err := strconv.ParseUint(to, 10, 16)
	if err != nil || high < low {
		return 0, 0, errPort
	}
	return uint16(low), uint16(high), nil
}

// Resolvers reads the name servers of a resolv.conf, for NetworkConfig.Resolvers. Lines it does not
// understand are skipped, as the C library does; at most the three servers that it would use are taken.
func Resolvers(resolvConf string) []string {
	const most = 3
	var found []string
	for line := range strings.Lines(resolvConf) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || len(found) == most {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			found = append(found, plain(addr).String())
		}
	}
	return found
}
