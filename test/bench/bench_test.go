// SPDX-License-Identifier: Apache-2.0

package main

import (
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
		},
		memory: []goBenchmark{{"Memory", map[string]float64{"map-bytes": 16 << 20}}},
		slowdowns: []slowdown{{
			workload: workload{name: "build", what: "go build"},
			times: map[state][]duration{
				stateNone:    {{wall: 1e9, processor: 1e9}, {wall: 2e9, processor: 1e9}, {wall: 1e9, processor: 1e9}},
				stateOutside: {{wall: 1e9, processor: 1e9}, {wall: 2e9, processor: 1e9}, {wall: 2e9, processor: 1e9}},
				stateInside:  {{wall: 2e9, processor: 1e9}, {wall: 2e9, processor: 3e9}, {wall: 3e9, processor: 3e9}},
			},
			seen: 10,
		}},
		footprint: footprint{idle: 2048, peak: 4096},
	}
	page := writePage(&r)
	for _, want := range []string{
		"| open | `file_on_sys_exit` | 60 | 1.50 | 300 | 6.00 |",
		"| build | wall | 1s | 1.000 [1.000, 2.000] | 2.000 [1.000, 3.000] | 10 | 0 |",
		"| build | CPU | 1s | 1.000 [1.000, 1.000] | 3.000 [1.000, 3.000] | 10 | 0 |",
		"| kernel: maps | 16.0 |",
		"| collector at rest (resident) | 2.0 |",
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
