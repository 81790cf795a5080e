// SPDX-License-Identifier: Apache-2.0

package event

import (
	"net/netip"
	"testing"
	"time"
)

// TestForms: texts that are kept as numbers read like those that are not.
func TestForms(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.FixedZone("x", 3600))
	for want, value := range map[string]Value{
		"2026-03-14T14:09:26.535897932Z": Timestamp(at),
		"1970-01-01T00:00:00Z":           Timestamp(time.Unix(0, 0)),
		"0001-01-01T00:00:00Z":           Timestamp(time.Time{}),
		"1677-09-21T00:12:43Z":           Timestamp(time.Unix(-9223372037, 0)),
		"2262-04-11T23:47:17Z":           Timestamp(time.Unix(9223372037, 0)),
		"00000000000000a1":               idValue(0xa1),
		"ffffffffffffffff":               idValue(1<<64 - 1),
		"":                               idValue(0),
		"18446744073709551615":           decimalValue(1<<64 - 1),
		"8:1":                            deviceValue(8<<20 | 1),
		"4095:1048575":                   deviceValue(1<<32 - 1),
		"169.254.169.254":                addressValue(netip.MustParseAddr("169.254.169.254")),
		"fe80::1%eth0":                   addressValue(netip.MustParseAddr("fe80::1%eth0")),
		"invalid IP":                     addressValue(netip.Addr{}),
		"plain":                          String("plain"),
	} {
		if value.Kind() != ValueString || value.AsString() != want || value.Text() != want || string(value.AppendString(nil)) != want {
			t.Errorf("got %q, want %q", value.AsString(), want)
		}
	}
	for _, value := range []Value{Timestamp(at), idValue(1), Int(1)} {
		if value.Kind() == ValueString && value.AsInt() != 0 {
			t.Errorf("%q is also the integer %d", value.AsString(), value.AsInt())
		}
	}
	e := Event{Instance: "inst", Seq: 42, Payload: &SandboxStart{}}
	for _, a := range e.AppendAttributes(nil) {
		if a.Key == LogRecordUID && a.Value.AsString() != e.UID() {
			t.Errorf("%s is %q, want %q", a.Key, a.Value.AsString(), e.UID())
		}
	}
}

// TestEnumerationAllocates nothing for the most frequent events.
func TestEnumerationAllocates(t *testing.T) {
	now := time.Now()
	process := &Process{Start: now, UID: 1, ParentUID: 2, RootUID: 3, Name: "go", Executable: "/usr/bin/go", Agent: &Agent{Name: "codex"}}
	payloads := []Payload{
		&FileOpen{Path: "/etc/passwd", Access: AccessRead | AccessDirectory, Inode: 7, Device: 1, Class: FileClassSystem},
		&ProcessExec{Args: []string{"go", "build"}, ArgsCount: 2},
		&ProcessExit{Code: 1, Exited: now},
		&NetworkConnect{Transport: TransportTCP, Peer: netip.MustParseAddrPort("192.0.2.1:443")},
	}
	attributes := make([]Attribute, 0, 64)
	text := make([]byte, 0, 4096)
	for _, p := range payloads {
		e := &Event{Instance: "inst", Seq: 1, Process: process, Payload: p}
		if n := testing.AllocsPerRun(100, func() {
			for _, a := range e.AppendAttributes(attributes) {
				text = a.Value.AppendString(text[:0])
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", p.Kind(), n)
		}
	}
}

// TestEnvironmentTwice: of two variables of one name the first counts, as for getenv.
func TestEnvironmentTwice(t *testing.T) {
	t.Parallel()
	exec := &ProcessExec{Env: []EnvVar{{"A", "1"}, {"B", "2"}, {"A", "3"}}}
	got := map[Key]string{}
	for _, a := range exec.AppendAttributes(nil) {
		if _, twice := got[a.Key]; twice {
			t.Errorf("%s is there twice", a.Key)
		}
		got[a.Key] = a.Value.AsString()
	}
	if got["process.environment_variable.A"] != "1" || got["process.environment_variable.B"] != "2" {
		t.Errorf("got %v", got)
	}
}
