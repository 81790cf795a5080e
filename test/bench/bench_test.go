// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseBenchmarks(t *testing.T) {
	got := parseBenchmarks("goos: linux\nBenchmarkA/b-c/inside-2   \t1\t 12.5 ns/run\t 2.25 x-empty\nBenchmarkB 10 3 ns/op\nok x 1s\n")
	if len(got) != 2 || got[0].name != "A/b-c/inside" || got[0].metrics["x-empty"] != 2.25 || got[1].metrics["ns/op"] != 3 {
		t.Errorf("got %+v", got)
	}
}

func TestPage(t *testing.T) {
	r := results{
		kernel: []goBenchmark{
			{"Kernel/open/file_on_sys_exit/inside", map[string]float64{"ns/run": 300, "x-empty": 6}},
			{"Kernel/open/file_on_sys_exit/outside", map[string]float64{"ns/run": 60, "x-empty": 1.5}},
			{"Kernel/udp-packet/dns_on_egress/inside", map[string]float64{"ns/run": 200, "x-empty": 4}},
			{"Kernel/udp-packet/dns_on_egress/outside", map[string]float64{"runs": 0}},
		},
		memory: []goBenchmark{{"Memory", map[string]float64{"map-bytes": 16 << 20}}},
		slowdowns: []slowdown{{
			workload: workload{name: "build", what: "go build"},
			times: map[state][]duration{
				stateNone:    {{wall: 1e9, processor: 1e9}, {wall: 2e9, processor: 1e9}, {wall: 1e9, processor: 1e9}},
				stateOutside: {{wall: 1e9, processor: 1e9}, {wall: 2e9, processor: 1e9}, {wall: 2e9, processor: 1e9}},
				stateInside:  {{wall: 2e9, processor: 1e9}, {wall: 2e9, processor: 3e9}, {wall: 3e9, processor: 3e9}},
			},
			seen: 10, lost: map[string]float64{"network.stream (budget)": 3, "file.open (ring_full)": 0},
		}},
		footprint: footprint{idle: 2048, peak: 4096, rest: 0.0025},
	}
	page := writePage(&r)
	for _, want := range []string{
		"| open | `file_on_sys_exit` | 60 | 1.50 | 300 | 6.00 |",
		"| udp-packet | `dns_on_egress` | – | – | 200 | 4.00 |",
		"| build | wall | 1s | 1.000 [1.000, 2.000] | 2.000 [1.000, 3.000] | 10 | 3 network.stream (budget) |",
		"| build | CPU | 1s | 1.000 [1.000, 1.000] | 3.000 [1.000, 3.000] | 10 | 3 network.stream (budget) |",
		"| kernel: maps | 16.0 |",
		"| collector at rest (resident) | 2.0 |",
		"At rest the collector takes 0.25 % of one processor's time.",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no line %q:\n%s", want, page)
		}
	}
}

// TestMedianInterval checks the places against the exact probabilities of the binomial distribution.
func TestMedianInterval(t *testing.T) {
	for n, want := range map[int][2]int{1: {0, 0}, 2: {0, 1}, 5: {0, 4}, 6: {0, 5}, 9: {1, 7}, 15: {3, 11}, 20: {5, 14}, 30: {9, 20}} {
		if low, high := medianInterval(n); low != want[0] || high != want[1] {
			t.Errorf("of %d values: %d to %d, want %d to %d", n, low, high, want[0], want[1])
		}
	}
}

// TestStorms does a little of every storm: a benchmark that nobody runs for long must not be broken when somebody does.
func TestStorms(t *testing.T) {
	names := []string{"exec", "open", "getppid", "requests"}
	if hasRedis() {
		names = append(names, "redis")
	}
	for _, name := range names {
		if err := storm([]string{name, "100", t.TempDir()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, args := range [][]string{nil, {"exec", "many", ""}, {"none", "1", ""}} {
		if storm(args) == nil {
			t.Errorf("storm %q: no error", args)
		}
	}
}

// TestSection: a part of the page is written alone and kept when others are.
func TestSection(t *testing.T) {
	const one, two section = "one", "two"
	text := func(s section, what string) string { return s.begin() + what + s.end() }
	file := filepath.Join(t.TempDir(), "page.md")
	if kept, err := one.kept(file); kept != "" || err != nil {
		t.Errorf("of no page is kept %q, %v", kept, err)
	}
	if err := one.update(file, text(one, "1")); err == nil {
		t.Error("a section is put into no page")
	}
	if err := os.WriteFile(file, []byte("# page\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "# page\n"
	for _, step := range []struct {
		section    section
		text, want string
	}{
		{one, "1\n", "# page\n" + text(one, "1\n")},
		{two, "2\n", "# page\n" + text(one, "1\n") + text(two, "2\n")},
		{one, "3\n", "# page\n" + text(one, "3\n") + text(two, "2\n")},
	} {
		if err := step.section.update(file, text(step.section, step.text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want = step.want; string(got) != want {
			t.Errorf("the page is %q, want %q", got, want)
		}
	}
	for _, s := range []section{one, two} {
		if kept, err := s.kept(file); err != nil || kept == "" || !strings.Contains(want, kept) {
			t.Errorf("%q is kept of section %s, %v", kept, s, err)
		}
	}
	if got := one.of("# page\n" + one.begin() + "no end\n"); got != "" {
		t.Errorf("a section without an end is %q", got)
	}
}

// TestNodeSection writes what two machines said.
func TestNodeSection(t *testing.T) {
	var says strings.Builder
	for kernel := range strings.SplitSeq(nodeKernels, ",") {
		for _, line := range []string{
			"=== BINARY bpf",
			"BenchmarkNode/getppid/again      \t 1\t 200.0 all-ns/op\t 180.2 own-ns/op\t 200.0 rest-ns/op\t 1.000 x-all\t 1.001 x-own\t 1.000 x-rest",
			"BenchmarkNode/getppid/empty      \t 1\t 220.0 all-ns/op\t 187.2 own-ns/op\t 200.0 rest-ns/op\t 1.100 x-all\t 1.040 x-own\t 1.070 x-rest",
			"BenchmarkNode/getppid/none       \t 1\t 200.0 all-ns/op\t 180.0 own-ns/op\t 200.0 rest-ns/op\t 1.000 x-all\t 1.000 x-own\t 1.002 x-rest",
			"BenchmarkNode/getppid/trampoline \t 1\t 230.0 all-ns/op\t 189.0 own-ns/op\t 200.0 rest-ns/op\t 1.150 x-all\t 1.050 x-own\t 1.060 x-rest",
			"BenchmarkNode/getppid/trampoline/file_on_moved@vfs_read \t 1\t 55.0 ns/run\t 2.000 runs/op",
			"PASS",
		} {
			says.WriteString(kernel + "\t" + line + "\n")
		}
	}
	says.WriteString("ok\tkernel 6.1 (linux-image)\tplan tracepoint\t1.0s\n")
	var b strings.Builder
	writeNode(&b, parseMachines(says.String()))
	for _, want := range []string{
		"| 6.12 | getppid | nothing | 180 | ±0.0010 | ±0.0020 | ±0.0000 |",
		"| 6.1 | getppid | the plan `trampoline` | 189 | 1.0500 | 1.0600 | 1.1500 |",
		"| 6.12 | getppid | an empty program on `sys_exit` | 187 | 1.0400 | 1.0700 | 1.1000 |",
		"| 6.1 | getppid | trampoline | `file_on_moved@vfs_read` | 2.00 | 55 |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the section has no line %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "tracepoint`") {
		t.Errorf("the section has what was not measured:\n%s", b.String())
	}
}
