// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// nodeTax is the section about what the rest of the node pays, which is measured and written alone with -node.
const nodeTax section = "node tax"

// nodeKernels are the kernels that it is measured on.
const nodeKernels = "6.1,6.12"

// updateNode measures the section alone and puts it in its place in the page.
func updateNode(ctx context.Context, page string) error {
	m, began := describeMachine(), time.Now()
	progress("measuring what the rest of the node pays")
	machines, err := nodeMachines(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(nodeTax.begin())
	fmt.Fprintf(&b, "\n## Node tax, in instructions\n\nMeasured on %s, commit %s, by `make bench-node`.\n",
		began.UTC().Format("2006-01-02"), "`"+m.version+"`")
	writeNode(&b, machines)
	b.WriteString(nodeTax.end())
	return nodeTax.update(page, b.String())
}

// nodeMachines measures on emulated machines, one for each kernel, which have a Go tool as this one has.
func nodeMachines(ctx context.Context) (_ map[string][]goBenchmark, err error) {
	tree, err := os.MkdirTemp("", "watchglass-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tree)) }()
	if err := goTree(ctx, tree); err != nil {
		return nil, fmt.Errorf("copying the Go tool: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "run", "./test/vm", "-counted", "-kernel", nodeKernels, "-bench", "^BenchmarkNode$", "-tree", tree, "./bpf")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("measuring on emulated machines: %w\n%s", err, out.String())
	}
	machines := parseMachines(out.String())
	for kernel := range strings.SplitSeq(nodeKernels, ",") {
		if len(machines[kernel]) == 0 {
			return nil, fmt.Errorf("nothing was measured on Linux %s:\n%s", kernel, out.String())
		}
	}
	return machines, nil
}

// goTree makes a root directory with a Go tool in it that can build what needs no C, and the standard library's sources.
func goTree(ctx context.Context, root string) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOTOOLDIR").Output()
	if err != nil {
		return err
	}
	words := strings.Fields(string(out))
	if len(words) != 2 {
		return fmt.Errorf("go env says %q of two directories", out)
	}
	from, tools := words[0], words[1]
	const to = "usr/local/go"
	for _, name := range []string{"bin/go", "go.env", "VERSION"} {
		if err := copyTo(filepath.Join(root, to, name), filepath.Join(from, name)); err != nil {
			return err
		}
	}
	inside, err := filepath.Rel(from, tools)
	if err != nil {
		return err
	}
	for _, name := range []string{"compile", "asm", "link"} {
		if err := copyTo(filepath.Join(root, to, inside, name), filepath.Join(tools, name)); err != nil {
			return err
		}
	}
	// Of the sources no tests, and not those of the Go tool itself: they would take as much memory again.
	sources := filepath.Join(from, "src")
	err = filepath.WalkDir(sources, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, sources)
		if entry.IsDir() && (name == "/cmd" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return copyTo(filepath.Join(root, to, "src", name), path)
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		return err
	}
	return os.Symlink("/"+to+"/bin/go", filepath.Join(root, "bin", "go"))
}

// copyTo copies a file, its mode with it, and makes the directories above it.
func copyTo(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
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

func writeNode(b *strings.Builder, machines map[string][]goBenchmark) {
	b.WriteString(`
What processes outside of every sandbox execute, in the kernel and not, with a tracer that watches another sandbox by what they
execute without: on emulated machines of one processor whose clock counts instructions (` + "`qemu -icount`" + `), so that nothing
that the host does besides is in the figures. They are no times: an instruction that waits for memory counts like any other, and
what the kernel's slow path of system calls costs a real processor is more than its instructions. *Own* is by the processor's time of
these processes, the median of several measurements. *But the tracer* is everything that was executed meanwhile, by whomever, but by
the process with the tracer: what the kernel puts off is in it. *All* is the tracer too. Of nothing it is said by how much
two measurements differ, before a tracer and after one: what cannot be told from chance.

| Linux | work | with | instructions | × own | × but the tracer | × all |
|---|---|---|---:|---:|---:|---:|
`)
	for kernel := range strings.SplitSeq(nodeKernels, ",") {
		work := indexed(machines[kernel])
		for _, name := range nodeWorks(machines[kernel]) {
			before, after := work[name+"/none"], work[name+"/again"]
			differ := func(unit string) float64 { return max(before[unit], after[unit]) - 1 }
			fmt.Fprintf(b, "| %s | %s | nothing | %.0f | ±%.4f | ±%.4f | ±%.4f |\n", kernel, name,
				min(before["own-ns/op"], after["own-ns/op"]), differ("x-own"), differ("x-rest"), differ("x-all"))
			for _, state := range nodeStates() {
				if m := work[name+"/"+state.name]; m != nil {
					fmt.Fprintf(b, "| %s | %s | %s | %.0f | %.4f | %.4f | %.4f |\n", kernel, name, state.what,
						m["own-ns/op"], m["x-own"], m["x-rest"], m["x-all"])
				}
			}
		}
	}
	b.WriteString(`
* getppid: the cheapest system call
* requests: a server's and its client's processes over the loopback, 50 connections, a request and an answer of 64 bytes each, by
  epoll, read and write, as redis-benchmark and Redis do
* build: a step of a script of a build's shape, without its computing: 20 names are looked for in vain, and three programs
  executed, one that reads 10 files of 8 KiB and writes them into one, one that copies a file, one that puts the copy in another's
  place. A real build computes besides.
* go-build: that: ` + "`go build`" + ` of five small packages of the standard library with an empty cache, on one processor. Larger ones
  compute more for each program that is started, so that their ratios are closer to 1.

Which programs run for one time of each, and how long each time, with the kernel's two looks at the clock around it:

| Linux | work | plan | program | runs | instructions a run |
|---|---|---|---|---:|---:|
`)
	for kernel := range strings.SplitSeq(nodeKernels, ",") {
		for _, m := range machines[kernel] {
			if parts := strings.SplitN(m.name, "/", 4); len(parts) == 4 {
				fmt.Fprintf(b, "| %s | %s | %s | `%s` | %.2f | %.0f |\n", kernel, parts[1], parts[2], parts[3], m.metrics["runs/op"], m.metrics["ns/run"])
			}
		}
	}
}

// nodeState is what the works are done with, and how the page calls it.
type nodeState struct{ name, what string }

func nodeStates() []nodeState {
	return []nodeState{
		{"trampoline", "the plan `trampoline`"},
		{"spared", "the plan `trampoline`, `kernel.file_io: false`"},
		{"empty", "an empty program on `sys_exit`"},
		{"tracepoint", "the plan `tracepoint`"},
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
