// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/watchglass/watchglass/event"
)

// TestWithoutCEL: what is decided without CEL is decided as CEL decides it. Every condition of the built-in rules,
// and some that combine all comparisons, are asked about every event of the rules' own tests and more.
func TestWithoutCEL(t *testing.T) {
	sources, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(append(sources, hundredSource())...)
	if err != nil {
		t.Fatal(err)
	}
	events := append(work(), sampleEvents()...)
	for _, r := range s.rules {
		for i := range r.tests {
			for j := range r.tests[i].Events {
				e, err := s.l.event(&r.tests[i].Events[j], time.Unix(1000, 0))
				if err != nil {
					t.Fatal(err)
				}
				events = append(events, e)
			}
		}
	}
	for _, peer := range []string{"127.0.0.1:22", "[2001:db8::1]:443", "192.0.2.1:22"} {
		events = append(events, &event.Event{
			Time: time.Unix(1000, 0), Sandbox: &event.Sandbox{ID: "s", Name: "name"},
			Payload: &event.NetworkConnect{Transport: event.TransportTCP, Peer: netip.MustParseAddrPort(peer), PeerName: "a\xffb", Error: 13},
		})
	}
	var all []*expression
	for _, r := range s.rules {
		for _, st := range r.stages {
			all = append(all, st.when)
		}
		all = append(all, r.exceptions...)
	}
	for _, condition := range []string{
		`network.peer.address == "192.0.2.1"`, `!(network.peer.address.startsWith("192.") && network.peer.port < 100)`,
		`network.peer.address.endsWith(":1") || network.peer.address.contains("0.0")`, `network.peer.address.matches("^[0-9.]+$")`,
		`network.peer.port >= 22 && network.peer.port <= 22 && network.peer.port > 21`, `network.peer.port != 22 || present(error.type)`,
		`!present(server.address) && server.address != "a"`, `server.address in ["a", "b"] || "x" in process.command_args`,
		`true || process.command_args.size() > 0`, `false && process.command_args.size() > 0`, `!(process.command_args.size() > 3) && process.pid == 4`,
		`process.command_args.exists(a, a == "-quiet") || process.executable.name == "cc1"`, `watchglass.sandbox.name == "name"`,
		`process.command_args[9] == "x" || process.pid == 4`, `process.command_args[9] == "x" && process.pid == 5`,
		`watchglass.file.class != "system" && "write" in watchglass.file.access`, `watchglass.process.uid == "0000000000000004"`,
	} {
		x, err := s.l.compile(condition, cel.BoolType, nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	v, decided := newValues(s.l), 0
	for _, x := range all {
		for _, e := range events {
			v.load(e)
			got, err := x.holds(v)
			plain := expression{program: x.program, rest: &clause{open: true}}
			want, wantErr := plain.holds(v)
			if got != want || err != nil && wantErr == nil {
				t.Errorf("%v: %v: %t, %v; CEL says %t, %v", fmt.Sprintf("%+v %+v", x.guards, x.rest), e.Payload, got, err, want, wantErr)
			}
			if x.rest != nil && x.rest.holds(v) != verdictOpen {
				decided++
			}
			v.release()
		}
	}
	if decided < 1000 {
		t.Errorf("only %d were decided without CEL by more than comparisons", decided)
	}
}
