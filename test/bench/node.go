// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// nodeTax is the section about what the rest of the node pays, which is measured and written alone with -node.
const nodeTax section = "node tax"

// nodeKernels are the kernels that it is measured on, nodeRuns how often: that the figures are the same shows that nothing
// else is in them.
const (
	nodeKernels = "6.1,6.12"
	nodeRuns    = 2
)

// nodePlan is what was measured under a hook plan, run by run, by kernel.
type nodePlan struct {
	plan string
	runs []map[string][]goBenchmark
}

// updateNode measures the section alone and puts it in its place in the page.
func updateNode(ctx context.Context, page string) error {
	m, began := describeMachine(), time.Now()
	var plans []nodePlan
	for _, plan := range []string{"trampoline", "tracepoint"} {
		p := nodePlan{plan: plan}
		for i := range nodeRuns {
			progress(fmt.Sprintf("measuring the node's tax under the plan %s: run %d of %d", plan, i+1, nodeRuns))
			machines, err := nodeMachines(ctx, plan)
			if err != nil {
				return err
			}
			p.runs = append(p.runs, machines)
		}
		plans = append(plans, p)
	}
	var b strings.Builder
	b.WriteString(nodeTax.begin())
	fmt.Fprintf(&b, "\n## Node tax, in instructions\n\nMeasured on %s, commit %s, by `make bench-node`.\n",
		began.UTC().Format("2006-01-02"), "`"+m.version+"`")
	writeNode(&b, plans)
	b.WriteString(nodeTax.end())
	return nodeTax.update(page, b.String())
}

// nodeMachines measures on emulated machines, one for each kernel.
func nodeMachines(ctx context.Context, plan string) (map[string][]goBenchmark, error) {
	cmd := exec.CommandContext(ctx, "go", "run", "./test/vm", "-counted", "-kernel", nodeKernels, "-plan", plan,
		"-bench", "^BenchmarkNode$", "./bpf")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("measuring under the plan %s: %w\n%s", plan, err, out.String())
	}
	machines := parseMachines(out.String())
	for kernel := range strings.SplitSeq(nodeKernels, ",") {
		if len(machines[kernel]) == 0 {
			return nil, fmt.Errorf("measuring under the plan %s: nothing was measured on Linux %s in:\n%s", plan, kernel, out.String())
		}
	}
	return machines, nil
}

// parseMachines reads what machines say that run benchmarks: the machine's name, a tab, a line of go test.
func parseMachines(text string) map[string][]goBenchmark {
	said := map[string]*strings.Builder{}
	for line := range strings.Lines(text) {
		name, rest, found := strings.Cut(line, "\t")
		if !found {
			continue
		}
		if said[name] == nil {
			said[name] = &strings.Builder{}
		}
		said[name].WriteString(rest)
	}
	machines := map[string][]goBenchmark{}
	for name, text := range said {
		if benchmarks := parseBenchmarks(text.String()); len(benchmarks) > 0 {
			machines[name] = benchmarks
		}
	}
	return machines
}

func writeNode(b *strings.Builder, plans []nodePlan) {
	b.WriteString(`
What processes outside of every sandbox execute, in the kernel and not, with a tracer that watches another sandbox by what they
execute without: on emulated machines of one processor whose clock counts instructions (` + "`qemu -icount`" + `), so that nothing
that the host does besides is in the figures. They are no times: an instruction that waits for memory counts like any other, and
what the kernel's slow path of system calls costs a real processor is more than its instructions. *Own* is by the processor's time of
these processes, the median of many measurements. *But the tracer* is everything that was executed meanwhile, by whomever, but by
the process with the tracer: what the kernel puts off is in it. *All* is the tracer too. Of nothing, what is said is by how much
what was measured before a tracer and after one differ, more or less: what cannot be told from chance.

| Linux | plan | work | with | instructions | × own | × but the tracer | × all |
|---|---|---|---|---:|---:|---:|---:|
`)
	for kernel := range strings.SplitSeq(nodeKernels, ",") {
		for _, p := range plans {
			work := indexed(p.runs[0][kernel])
			for _, name := range nodeWorks(p.runs[0][kernel]) {
				before, after := work[name+"/none"], work[name+"/again"]
				differ := func(unit string) float64 { return max(before[unit], after[unit]) }
				fmt.Fprintf(b, "| %s | %s | %s | nothing | %.0f | ±%.4f | ±%.4f | ±%.4f |\n", kernel, p.plan, name,
					min(before["own-ns/op"], after["own-ns/op"]), differ("x-own")-1, differ("x-rest")-1, differ("x-all")-1)
				for _, state := range nodeStates() {
					if m := work[name+"/"+state.name]; m != nil {
						fmt.Fprintf(b, "| %s | %s | %s | %s | %.0f | %.4f | %.4f | %.4f |\n", kernel, p.plan, name, state.what,
							m["own-ns/op"], m["x-own"], m["x-rest"], m["x-all"])
					}
				}
			}
		}
	}
	fmt.Fprintf(b, `
Of %d runs of the whole, in machines booted anew, on a host that did other things too, no ratio differs by more than %.4f.

* getppid: the cheapest system call
* requests: a server's and its client's processes over the loopback, 50 connections, a request and an answer of 64 bytes each, by
  epoll, read and write, as redis-benchmark and Redis do
* build: a step of something of a build's shape, without its computing: 20 names are looked for in vain, 10 files of 8 KiB found
  and read, one written, and a program executed that reads and writes another, which is renamed. A real build computes besides, so that its
  ratio is closer to 1.

Which programs run for one time of each, and how long each time, with the kernel's two looks at the clock around it:

| Linux | plan | work | program | runs | instructions a run |
|---|---|---|---|---:|---:|
`, nodeRuns, nodeDifference(plans))
	for kernel := range strings.SplitSeq(nodeKernels, ",") {
		for _, p := range plans {
			for _, m := range p.runs[0][kernel] {
				if parts := strings.SplitN(m.name, "/", 4); len(parts) == 4 && parts[2] == "program" {
					fmt.Fprintf(b, "| %s | %s | %s | `%s` | %.2f | %.0f |\n", kernel, p.plan, parts[1], parts[3], m.metrics["runs/op"], m.metrics["ns/run"])
				}
			}
		}
	}
}

// nodeState is what the works are done with, and how the page calls it.
type nodeState struct{ name, what string }

func nodeStates() []nodeState {
	return []nodeState{
		{"tracer", "the tracer"},
		{"spared", "the tracer, `kernel.file_io: false`"},
		{"empty", "an empty program on `sys_exit`"},
	}
}

// nodeWorks is the works that were measured, in their order.
func nodeWorks(benchmarks []goBenchmark) []string {
	var names []string
	for _, m := range benchmarks {
		if parts := strings.Split(m.name, "/"); len(parts) == 3 && !slices.Contains(names, parts[1]) {
			names = append(names, parts[1])
		}
	}
	return names
}

// indexed is the metrics of benchmarks by the names behind the first slash.
func indexed(benchmarks []goBenchmark) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for _, m := range benchmarks {
		if _, name, found := strings.Cut(m.name, "/"); found {
			all[name] = m.metrics
		}
	}
	return all
}

// nodeDifference is by how much a ratio differs at most between runs of the same.
func nodeDifference(plans []nodePlan) (most float64) {
	for _, p := range plans {
		for kernel, first := range p.runs[0] {
			for _, other := range p.runs[1:] {
				again := indexed(other[kernel])
				for name, metrics := range indexed(first) {
					if ratio, found := again[name]["x-own"]; found {
						most = max(most, ratio-metrics["x-own"], metrics["x-own"]-ratio)
					}
				}
			}
		}
	}
	return most
}
