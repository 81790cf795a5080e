// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
)

func sigmaSource(t testing.TB) Source {
	t.Helper()
	data, err := os.ReadFile("testdata/sigma.yml")
	if err != nil {
		t.Fatal(err)
	}
	return Source{Name: "sigma.yml", Data: data}
}

func TestImportSigma(t *testing.T) {
	file, converted, failures := ImportSigma(sigmaSource(t))
	var said []string
	for _, failure := range failures {
		said = append(said, failure.Error())
	}
	want := []string{
		`sigma.yml: rule Words: its log source (category "", service "auditd") has no events here`,
		`sigma.yml: rule For another system: it is for windows`,
		`sigma.yml: rule Hashes: the field Hashes is not known of process.exec events`,
		`sigma.yml: rule Aggregates: its condition aggregates`,
	}
	if diff := cmp.Diff(want, said); diff != "" || converted != 3 {
		t.Fatalf("%d converted; what could not be (-want +got):\n%s", converted, diff)
	}
	s, err := Load(Source{Name: "converted", Data: file})
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	engine := newTestEngine(s)
	for _, test := range []struct {
		attributes string
		want       string
	}{
		{`on: process.exec, attributes: {process.executable.path: /usr/bin/nc, process.command_args: [nc, -l, -e, /bin/sh]}`, "sigma-netcat-with-a-shell-1111"},
		{`on: process.exec, ancestors: [[/usr/sbin/sshd]], attributes: {process.executable.path: /usr/bin/nc, process.command_args: [nc, -e, /bin/sh]}`, ""},
		{`on: process.exec, attributes: {process.executable.path: /usr/bin/nc, process.command_args: [nc, -l]}`, ""},
		{`on: file.open, attributes: {file.path: /root/.ssh/authorized_keys, watchglass.file.access: [write]}`, "sigma-a-key-is-written-2222"},
		{`on: file.open, attributes: {file.path: /home/a/.ssh/id_x, watchglass.file.access: [create]}`, "sigma-a-key-is-written-2222"},
		{`on: file.open, attributes: {file.path: /home/a/.ssh/id_xy, watchglass.file.access: [create]}`, ""},
		{`on: file.open, attributes: {file.path: /root/.ssh/authorized_keys, watchglass.file.access: [read]}`, ""},
		{`on: network.connect, attributes: {network.peer.port: 4444}`, "sigma-a-pool-3333"},
		{`on: network.connect, attributes: {network.peer.address: 198.51.100.7}`, "sigma-a-pool-3333"},
		{`on: network.connect, attributes: {server.address: x.pool.EXAMPLE}`, "sigma-a-pool-3333"},
		{`on: network.connect, attributes: {network.peer.address: "2001:db8::1", network.peer.port: 443}`, ""},
	} {
		text := "version: watchglass.rules/v1\nrules: [{id: abc, uuid: 00000000-0000-4000-8000-000000000001, title: t, severity: low, on: [process.exec], condition: 'true', tests: [{name: a, events: [{" +
			test.attributes + "}]}]}]"
		d, err := parse("test", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		ev, err := s.l.event(&d.Rules[0].Tests[0].Events[0], sampleEvents()[0].Time)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		engine.Detect(ev, func(f *event.Finding) { got = f.Rule.ID })
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.attributes, got, test.want)
		}
		engine = newTestEngine(s)
	}
	if engine.Failures() != 0 {
		t.Errorf("%d evaluations failed", engine.Failures())
	}
}

func TestSigmaConditions(t *testing.T) {
	for condition, want := range map[string]string{
		"a":                            "",
		"a and":                        `names "", which is no selection`,
		"a b":                          `"b" where nothing can follow`,
		"(a or b":                      "lacks a )",
		"1 of c*":                      `no selection matches "c*"`,
		"all of them and not (a)":      "",
		strings.Repeat("(", 300) + "a": "lacks a )",
		"not condition":                "which is no selection",
	} {
		text := fmt.Sprintf("{title: t, id: 11111111-1111-4111-8111-111111111111, level: low, logsource: {category: process_creation}, detection: {a: {Image: x}, b: {Image: y}, condition: %q}}", condition)
		_, n, failures := ImportSigma(Source{Name: "f", Data: []byte(text)})
		switch {
		case want == "" && (n != 1 || len(failures) > 0):
			t.Errorf("%q: %v", condition, failures)
		case want != "" && (len(failures) != 1 || !strings.Contains(failures[0].Error(), want)):
			t.Errorf("%q: %v, want %q", condition, failures, want)
		}
	}
}

func FuzzImportSigma(f *testing.F) {
	for part := range strings.SplitSeq(string(sigmaSource(f).Data), "\n---\n") {
		f.Add([]byte(part))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, n, _ := ImportSigma(Source{Name: "f", Data: data})
		if n == 0 {
			return
		}
		if _, err := Load(Source{Name: "converted", Data: file}); err != nil && n == 1 {
			t.Errorf("what was converted does not load: %v", err)
		}
	})
}

// BenchmarkImportSigma is the conversion of a hundred rules: most of the time must be theirs, not the language's.
func BenchmarkImportSigma(b *testing.B) {
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "---\n{title: t%d, id: 11111111-1111-4111-8111-%012d, level: low, logsource: {category: process_creation}, detection: {a: {Image: /x%d}, condition: a}}\n", i, i, i)
	}
	source := Source{Name: "f", Data: []byte(text.String())}
	for b.Loop() {
		if _, n, failures := ImportSigma(source); n != 100 {
			b.Fatal(n, failures)
		}
	}
}
