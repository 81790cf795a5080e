// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// writePage writes everything that was measured as Markdown.
func writePage(r *results) string {
	var b strings.Builder
	b.WriteString("# What watching costs\n\n")
	b.WriteString("<!-- Written by `make bench`. Do not edit. -->\n\n")
	fmt.Fprintf(&b, "Measured on %s, commit `%s`, Linux %s, %d processors (%s), load before: %s.\n",
		r.began.UTC().Format("2006-01-02"), r.machine.version, r.machine.kernel, r.machine.processors,
		r.machine.processor, r.machine.load)
	b.WriteString("Times of different runs or machines cannot be compared: read the ratios.\n")
	writeKernel(&b, r.kernel)
	writeSlowdowns(&b, r.slowdowns)
	writeUser(&b, r)
	writeMemory(&b, r)
	writeDetection(&b, r)
	return b.String()
}

func writeKernel(b *strings.Builder, benchmarks []goBenchmark) {
	b.WriteString(`
## In the kernel

Mean time of one run of each program, by the kernel's own statistics (` + "`BPF_ENABLE_STATS`" + `), beside an empty
program on the same hook at the same time; the empty program's time is that of the two clock reads around
it. Best of 5 repetitions, the ratio is the median of theirs. *Inside* is a process in a watched sandbox,
*outside* one that is in none. A hook runs for everything: the means of open are over open and close.
` + "`syscall_on_sys_exit`" + ` stands on its hook for all probes: its time is that of counting, of files, sockets and
notable calls together. *open-depth-N* is told each time, with the path of N names; *open-repeated* is only counted.
Both are of a program whose descriptors no other thread can change; with *-threads* of one where another could have put
another file there, so that the path that was asked for is read from its memory too. *udp-packet* goes from one socket of
a process to another, *tcp-packet* over a connection whose first bytes have been shown: inside the latter is of no interest to
anybody. Outside no packet runs a program, where there is a dash; with *-root* while programs hang at the root cgroup too
([limits.md](limits.md)), where all of them run, outside of no interest, and inside passed over since others see them.

What an open that is told costs with the close after it, by leaving parts out (depth 3, on an Intel processor, × empty, the median of
three): all of it 6.9; without the ring 5.7; without the path too 4.9; and without the clock, who it was and the sandbox's account
besides, so that nothing is told at all, 3.4. That is finding out that both calls are a sandbox's, counting them, whether anything was noted of the
descriptor that is closed, and whether the open need not be told. No part is dear by itself: one call and its return are 7 to 10 ns
where returns are guarded against speculation, and reading the clock is half of what an empty program takes.

| work | program | outside: ns | × empty | inside: ns | × empty |
|---|---|---:|---:|---:|---:|
`)
	type pair struct{ outside, inside map[string]float64 }
	pairs := map[string]*pair{}
	var order []string
	for _, benchmark := range benchmarks {
		parts := strings.Split(benchmark.name, "/")
		if len(parts) != 4 {
			continue
		}
		key := parts[1] + " | `" + parts[2] + "`"
		if pairs[key] == nil {
			pairs[key] = &pair{}
			order = append(order, key)
		}
		if parts[3] == "inside" {
			pairs[key].inside = benchmark.metrics
		} else {
			pairs[key].outside = benchmark.metrics
		}
	}
	for _, key := range order {
		p := pairs[key]
		fmt.Fprintf(b, "| %s | %s | %s |\n", key, runCells(p.outside), runCells(p.inside))
	}
}

// runCells is the mean time of a program and its ratio to an empty one; dashes for one that does not run.
func runCells(metrics map[string]float64) string {
	if _, idle := metrics["runs"]; idle {
		return "– | –"
	}
	return fmt.Sprintf("%.0f | %.2f", metrics["ns/run"], metrics["x-empty"])
}

func writeSlowdowns(b *strings.Builder, slowdowns []slowdown) {
	repetitions := 0
	for i := range slowdowns {
		repetitions = max(repetitions, len(slowdowns[i].times[stateNone]))
	}
	fmt.Fprintf(b, `
## Slowdown of real work

Time with a collector (%s, all events written to a JSON file) by the time without one, runs
of the three states taking turns: *wall* by the clock, with the collector working on the same processors;
*CPU* of the workload alone, which other work on the machine disturbs less. Median of the ratios of %d repetitions; in
brackets the interval that holds the true median with a confidence of 95 %%, by the ratios' order (of fewer than six
repetitions the smallest and the largest). *Outside* is what every other process of the node pays: the node's tax. *Lost* is
of which kind of record, and why.

| work | time | without | outside of every sandbox | inside | events | lost |
|---|---|---:|---:|---:|---:|---:|
`, "`watchglass collect`", repetitions)
	for i := range slowdowns {
		s := &slowdowns[i]
		for _, clock := range []struct {
			name string
			by   func(duration) time.Duration
		}{
			{"wall", func(d duration) time.Duration { return d.wall }},
			{"CPU", func(d duration) time.Duration { return d.processor }},
		} {
			var without []time.Duration
			for _, d := range s.times[stateNone] {
				without = append(without, clock.by(d))
			}
			slices.Sort(without)
			fmt.Fprintf(b, "| %s | %s | %v | %s | %s | %.0f | %s |\n", s.workload.name, clock.name,
				without[len(without)/2].Round(time.Millisecond),
				ratioText(s.ratios(stateOutside, clock.by)), ratioText(s.ratios(stateInside, clock.by)), s.seen, lostText(s.lost))
		}
	}
	b.WriteString("\n")
	for i := range slowdowns {
		fmt.Fprintf(b, "* %s: %s\n", slowdowns[i].workload.name, slowdowns[i].workload.what)
	}
}

// lostText is what was lost, by kind and reason; 0 for nothing.
func lostText(lost map[string]float64) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(lost)) {
		if lost[what] > 0 {
			parts = append(parts, fmt.Sprintf("%.0f %s", lost[what], what))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}

func ratioText(ratios []float64) string {
	if len(ratios) == 0 {
		return ""
	}
	low, high := medianInterval(len(ratios))
	return fmt.Sprintf("%.3f [%.3f, %.3f]", ratios[len(ratios)/2], ratios[low], ratios[high])
}

// medianInterval is the places, among n ordered values, between which the median of what they are drawn from lies with a
// confidence of at least 95 %: as many are below it as heads in n tosses of a coin. Of too few values it is all of them.
func medianInterval(n int) (low, high int) {
	const doubt = 0.05
	// probability is that of exactly k heads, below that of at most so many.
	probability, below := math.Pow(0.5, float64(n)), 0.0
	for k := 0; k < n/2; k++ {
		if below += probability; 2*below > doubt {
			return max(k-1, 0), n - 1 - max(k-1, 0)
		}
		low = k
		probability *= float64(n-k) / float64(k+1)
	}
	return low, n - 1 - low
}

func writeUser(b *strings.Builder, r *results) {
	b.WriteString(`
## From the ring to the exporters

One core. Decoding makes a record of bytes; the pipeline joins it to its process and sandbox, and
publishes the event; it is encoded once, as an OTLP log record, for the journal and all destinations; requests
are put together from records, here a thousand. Detectors and what destinations take come on top.

| stage | record | ns | events/s | bytes | allocations |
|---|---|---:|---:|---:|---:|
`)
	for _, stage := range []struct {
		name       string
		benchmarks []goBenchmark
	}{{"decode", r.decode}, {"pipeline", r.pipeline}, {"encode", r.encode}, {"request", r.request}} {
		for _, m := range sorted(stage.benchmarks) {
			_, record, _ := strings.Cut(m.name, "/")
			fmt.Fprintf(b, "| %s | %s | %.0f | %.0f | %.0f | %.0f |\n", stage.name, record,
				m.metrics["ns/op"], m.metrics["events/s"], m.metrics["B/op"], m.metrics["allocs/op"])
		}
	}
	b.WriteString(`
From the ring through decoding and attribution, on one core, in the default configuration: sixteen sandboxes make opens at
a steady rate for three seconds, by a program of their own, on the other processors. The one that reads has its core for itself
and the nice value that the collector gives itself. What a second of processor time does holds the garbage collector's part.

| opens/s made | events/s | lost | events/s of processor time |
|---:|---:|---:|---:|
`)
	for _, m := range r.sustained {
		_, rate, _ := strings.Cut(m.name, "/")
		fmt.Fprintf(b, "| %s | %.0f | %.0f | %.0f |\n", rate, m.metrics["events/s"], m.metrics["lost"], m.metrics["events/cpu-s"])
	}
	ratios := make([]float64, 0, len(r.encode))
	for _, m := range r.encode {
		ratios = append(ratios, m.metrics["x-generated"])
	}
	slices.Sort(ratios)
	fmt.Fprintf(b, "\nMaking the same records of the generated OTLP types takes, in the same run, this many times as long: %s.\n", ratioText(ratios))
}

func sorted(benchmarks []goBenchmark) []goBenchmark {
	return slices.SortedFunc(slices.Values(benchmarks), func(a, b goBenchmark) int { return strings.Compare(a.name, b.name) })
}

func writeMemory(b *strings.Builder, r *results) {
	b.WriteString("\n## Memory\n\n| what | MiB |\n|---|---:|\n")
	for _, m := range r.memory {
		for _, unit := range slices.Sorted(maps.Keys(m.metrics)) {
			if what, found := strings.CutSuffix(unit, "-bytes"); found {
				fmt.Fprintf(b, "| kernel: %ss | %.1f |\n", what, m.metrics[unit]/(1<<20))
			}
		}
	}
	fmt.Fprintf(b, "| collector at rest (resident) | %.1f |\n", float64(r.footprint.idle)/1024)
	fmt.Fprintf(b, "| collector at most, under the workloads above (resident) | %.1f |\n", float64(r.footprint.peak)/1024)
	fmt.Fprintf(b, "\nAt rest the collector takes %.2f %% of one processor's time.\n", 100*r.footprint.rest)
	b.WriteString("\nThe default configuration: a ring of 8 MiB is most of the maps. Maps with a value for each processor\n" +
		"grow with their number: see [kernels.md](kernels.md). How many instructions the verifier goes through for each program\n" +
		"is in [bpf/testdata/instructions.txt](../bpf/testdata/instructions.txt), which a test holds it to.\n")
}
