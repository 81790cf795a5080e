// SPDX-License-Identifier: Apache-2.0

// Command bench measures what watching costs, and writes docs/performance.md.
//
// It owns the workloads and the page. It must not judge: budgets are tests, and times are only
// comparable within one run, so the page gives ratios of runs that alternate.
//
//	go run ./test/bench [-out docs/performance.md] [-repetitions 15] [-quick] [-detection] [-node]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "storm" {
		exit(storm(os.Args[2:]))
		return
	}
	var o options
	flag.StringVar(&o.out, "out", "docs/performance.md", "the page to write")
	flag.IntVar(&o.repetitions, "repetitions", 15, "how often each workload runs in each state")
	flag.BoolVar(&o.slowdowns, "slowdowns", false, "only the workloads; print the page instead of writing it")
	flag.BoolVar(&o.detection, "detection", false, "only what detectors cost and how long findings take; only that section of the page is written")
	flag.BoolVar(&o.node, "node", false, "only what the rest of the node pays, in instructions of emulated machines; only that section of the page is written")
	flag.BoolVar(&o.quick, "quick", false, "a tenth of the work: to try the benchmark itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, &o)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options is what the command line asks for.
type options struct {
	out         string
	repetitions int
	quick       bool
	slowdowns   bool
	detection   bool
	node        bool
}

// results is everything that the page tells.
type results struct {
	machine   machine
	began     time.Time
	kernel    []goBenchmark
	memory    []goBenchmark
	decode    []goBenchmark
	pipeline  []goBenchmark
	sustained []goBenchmark
	encode    []goBenchmark
	request   []goBenchmark
	work      []goBenchmark
	findings  []goBenchmark
	slowdowns []slowdown
	footprint footprint
}

func run(ctx context.Context, o *options) error {
	if o.node {
		return updateNode(ctx, o.out)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root: it loads BPF programs and makes cgroups")
	}
	if err := alone(); err != nil {
		return err
	}
	if o.detection {
		return updateDetection(ctx, o.out)
	}
	dir, err := os.MkdirTemp("", "watchglass-bench-")
	if err != nil {
		return fmt.Errorf("making a scratch directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	binary := filepath.Join(dir, "watchglass")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/watchglass").CombinedOutput(); err != nil {
		return fmt.Errorf("building watchglass: %w\n%s", err, out)
	}
	r := results{machine: describeMachine(), began: time.Now()}
	if !o.slowdowns {
		if err := r.runBenchmarks(ctx); err != nil {
			return err
		}
	}
	s := session{binary: binary, dir: dir, options: o}
	if err := s.measure(ctx, &r); err != nil {
		return err
	}
	if o.slowdowns {
		fmt.Print(writePage(&r))
		return nil
	}
	// What is measured apart stays.
	node, err := nodeTax.kept(o.out)
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.out, []byte(writePage(&r)+node), 0o644); err != nil { //nolint:gosec // for everyone to read
		return fmt.Errorf("writing the page: %w", err)
	}
	progress("wrote " + o.out)
	return nil
}

// runBenchmarks runs the Go benchmarks that the page shows.
func (r *results) runBenchmarks(ctx context.Context) error {
	for _, b := range []struct {
		what    string
		into    *[]goBenchmark
		pattern string
		pkg     string
		flags   []string
	}{
		{"programs in the kernel", &r.kernel, "^BenchmarkKernel$", "./bpf", []string{"-benchtime", "1x", "-timeout", "20m"}},
		{"memory in the kernel", &r.memory, "^BenchmarkMemory$", "./bpf", []string{"-benchtime", "1x"}},
		{"decoding", &r.decode, "^BenchmarkDecode$", "./bpf", []string{"-cpu", "1"}},
		{"the pipeline", &r.pipeline, "^BenchmarkPipeline$", "./collector", []string{"-cpu", "1"}},
		{"what is sustained", &r.sustained, "^BenchmarkKernelSustained$", "./bpf/tests", []string{"-benchtime", "1x", "-cpu", "1"}},
		{"encoding", &r.encode, "^BenchmarkEncode$", "./exporters/otlp", []string{"-cpu", "1"}},
		{"requests", &r.request, "^BenchmarkRequest$", "./exporters/otlp", []string{"-cpu", "1"}},
	} {
		progress("measuring " + b.what)
		benchmarks, err := goBench(ctx, b.pkg, b.pattern, b.flags)
		if err != nil {
			return err
		}
		*b.into = benchmarks
	}
	return r.measureDetection(ctx)
}

func progress(what string) {
	fmt.Fprintln(os.Stderr, time.Now().Format(time.TimeOnly), what)
}

// machine is where it was measured.
type machine struct {
	kernel, processor, version string
	processors                 int
	load                       string
}

func describeMachine() machine {
	m := machine{kernel: firstLine("/proc/sys/kernel/osrelease"), load: firstLine("/proc/loadavg")}
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name":
			m.processor = strings.TrimSpace(value)
		case "processor":
			m.processors++
		}
	}
	if out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		m.version = strings.TrimSpace(string(out))
	}
	return m
}

func firstLine(file string) string {
	text, _ := os.ReadFile(file)
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
