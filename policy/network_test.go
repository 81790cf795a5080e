// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/event"
)

func mustNetwork(t testing.TB, cfg *NetworkConfig) *Network {
	t.Helper()
	n, err := NewNetwork(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		entry string
		yes   string
		no    string
	}{
		{"127.0.0.0/8", "tcp 127.0.0.1:1, udp 127.255.255.255:65535, tcp [::ffff:127.0.0.1]:80, udp 127.0.0.1:0", "tcp 128.0.0.1:1, tcp [::1]:80"},
		{"10.0.0.0/8:443", "tcp 10.1.2.3:443, udp 10.1.2.3:443", "tcp 10.1.2.3:444, tcp 11.0.0.1:443"},
		{"[fd00::]/8", "tcp [fd12::1]:1", "tcp [fe80::1]:1"},
		{"[fd00::]/8:443", "tcp [fd12::1]:443", "tcp [fd12::1]:80"},
		{"fd00::/8", "tcp [fd12::1]:80", "tcp [2001:db8::1]:80"},
		{"::1", "tcp [::1]:80, tcp [::1%lo]:80", "tcp 127.0.0.1:80"},
		{"[::1]:8080", "tcp [::1]:8080", "tcp [::1]:80"},
		{"192.0.2.1:8000-8100", "tcp 192.0.2.1:8000, tcp 192.0.2.1:8100", "tcp 192.0.2.1:7999, tcp 192.0.2.1:8101, tcp 192.0.2.2:8000"},
		{"udp/10.0.0.53:53", "udp 10.0.0.53:53", "tcp 10.0.0.53:53"},
		{"tcp/192.0.2.0/24", "tcp 192.0.2.9:1", "udp 192.0.2.9:1"},
		{"tcp/[fd00::1]:443", "tcp [fd00::1]:443", "udp [fd00::1]:443"},
		{"::ffff:192.0.2.0/120", "tcp 192.0.2.7:80", "tcp 192.0.3.1:80"},
		{"0.0.0.0/0:443", "tcp 203.0.113.9:443", "tcp 203.0.113.9:80, tcp [2001:db8::1]:443"},
		{"fe80::/10", "tcp [fe80::1%eth0]:80", "tcp [fd00::1]:80"},
	} {
		n := mustNetwork(t, &NetworkConfig{Allow: []string{c.entry}})
		for want, list := range map[bool]string{true: c.yes, false: c.no} {
			for one := range strings.SplitSeq(list, ", ") {
				transport, peer, _ := strings.Cut(one, " ")
				if got := n.Allowed(event.Transport(transport), netip.MustParseAddrPort(peer)); got != want {
					t.Errorf("%s: Allowed(%s) = %t", c.entry, one, got)
				}
			}
		}
	}
}

func TestObservingAndResolvers(t *testing.T) {
	peer := netip.MustParseAddrPort("203.0.113.1:443")
	if n := mustNetwork(t, &NetworkConfig{}); !n.Observing() || !n.Allowed(event.TransportTCP, peer) {
		t.Error("without an allow-list something is not allowed")
	}
	n := mustNetwork(t, &NetworkConfig{Allow: []string{"127.0.0.1"}, Resolvers: []string{"192.0.2.53", "fd00::53"}})
	for address, want := range map[string]bool{
		"192.0.2.53:53": true, "[::ffff:192.0.2.53]:53": true, "192.0.2.53:853": true, "[fd00::53]:53": true,
		"192.0.2.53:443": false, "192.0.2.54:53": false,
	} {
		if got := n.Allowed(event.TransportUDP, netip.MustParseAddrPort(address)); got != want {
			t.Errorf("resolver %s: %t", address, got)
		}
	}
	if n.Observing() || n.Allowed(event.TransportTCP, peer) {
		t.Error("a policy allows what it does not list")
	}
}

func TestBadDestinations(t *testing.T) {
	for entry, want := range map[string]string{
		"":                    "unable to parse IP",
		"example.org":         "unexpected character",
		"example.org:443":     "unexpected character",
		"icmp/10.0.0.1":       "must be tcp or udp",
		"TCP/10.0.0.1":        "must be tcp or udp",
		"10.0.0.0/33":         "prefix length",
		"10.0.0.0/x":          "prefix length",
		"10.0.0.0/":           "prefix length",
		"10.0.0.1/8":          "bits set beyond",
		"fd00::1/8":           "bits set beyond",
		"10.0.0.1:":           "a port is",
		"10.0.0.1:0":          "a port is",
		"10.0.0.1:65536":      "a port is",
		"10.0.0.1:http":       "a port is",
		"10.0.0.1:90-80":      "a port is",
		"10.0.0.1:80-":        "a port is",
		"[fd00::1":            "IPv6 address with a port",
		"[fd00::1]443":        "IPv6 address with a port",
		"[fd00::1]:":          "IPv6 address with a port",
		"[10.0.0.1]:443":      "IPv6 address with a port",
		"fd00::/8:443":        "IPv6 address with a port",
		"fe80::1%eth0":        "zone",
		"10.0.0.1,10.0.0.2":   "unexpected character",
		" 10.0.0.1":           "unexpected character",
		"udp/tcp/10.0.0.1:53": "unable to parse IP",
	} {
		cfg := NetworkConfig{Allow: []string{"127.0.0.1", entry}}
		err := cfg.Validate()
		switch {
		case err == nil:
			t.Errorf("%q was accepted", entry)
		case !strings.Contains(err.Error(), want), !strings.Contains(err.Error(), "network.allow[1]"):
			t.Errorf("%q: %v, want %q", entry, err, want)
		}
	}
	if err := (&NetworkConfig{Resolvers: []string{"localhost"}}).Validate(); err == nil || !strings.Contains(err.Error(), `network.resolvers[0]: "localhost"`) {
		t.Errorf("a resolver by name: %v", err)
	}
}

func TestResolvers(t *testing.T) {
	got := Resolvers("# x\nnameserver 192.0.2.1\nnameserver  fe80::1%eth0\nsearch a.b\nnameserver\nnameserver x\noptions y\nnameserver ::ffff:192.0.2.2\nnameserver 192.0.2.9\n")
	if want := []string{"192.0.2.1", "fe80::1", "192.0.2.2"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func FuzzDestination(f *testing.F) {
	f.Add("udp/10.0.0.53:53")
	f.Add("[fd00::]/8:443")
	f.Add("192.0.2.1:8000-8100")
	f.Fuzz(func(t *testing.T, entry string) {
		d, err := parseDestination(entry)
		if err != nil {
			return
		}
		n := &Network{allow: []destination{d}}
		transport := d.transport
		if transport == "" {
			transport = event.TransportUDP
		}
		if peer := netip.AddrPortFrom(d.prefix.Addr(), d.last); !d.prefix.IsValid() || !n.Allowed(transport, peer) {
			t.Errorf("%q does not allow its own %s %s", entry, transport, peer)
		}
	})
}

func BenchmarkAllowed(b *testing.B) {
	cfg := NetworkConfig{}
	for range 32 {
		cfg.Allow = append(cfg.Allow, "10.0.0.0/8:443")
	}
	n, peer := mustNetwork(b, &cfg), netip.MustParseAddrPort("[::ffff:203.0.113.1]:443")
	b.ReportAllocs()
	for b.Loop() {
		n.Allowed(event.TransportTCP, peer)
	}
}

func TestLive(t *testing.T) {
	strict, err := New(&Config{Network: NetworkConfig{Allow: []string{"127.0.0.1"}}, Files: FilesConfig{Secrets: []string{"/x"}}})
	if err != nil {
		t.Fatal(err)
	}
	open, err := New(&Config{})
	if err != nil {
		t.Fatal(err)
	}
	live, peer := NewLive(strict), netip.MustParseAddrPort("203.0.113.1:443")
	if live.Allowed(event.TransportTCP, peer) || live.Class("/x") != event.FileClassSecret {
		t.Error("the first policy is not in force")
	}
	live.Swap(open)
	if !live.Allowed(event.TransportTCP, peer) || live.Class("/x") != event.FileClassOther || live.SecretAllowed("/x", "/y") {
		t.Error("the second policy is not in force")
	}
	for want, cfg := range map[string]Config{
		"policy.files.secrets":    {Files: FilesConfig{Secrets: []string{"**"}}},
		"policy.network.allow[0]": {Network: NetworkConfig{Allow: []string{"x"}}},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
