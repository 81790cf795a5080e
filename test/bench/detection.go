// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// detection is the section about detection, which is measured and written alone with -detection.
const detection section = "detection"

// measureDetection runs the benchmarks of what detectors cost, and of how long a finding takes.
func (r *results) measureDetection(ctx context.Context) error {
	progress("measuring the detectors")
	var err error
	if r.work, err = goBench(ctx, "./detectors/rules", "^BenchmarkWork$", []string{"-cpu", "1"}); err != nil {
		return err
	}
	progress("measuring how long findings take")
	// At real-time priority: what else the machine does is not part of it.
	r.findings, err = goBench(ctx, "./cmd/watchglass", "^BenchmarkKernelFinding$",
		[]string{"-benchtime", "1x", "-count", "3", "-timeout", "10m", "-exec", "chrt -r 5"})
	return err
}

func writeDetection(b *strings.Builder, r *results) {
	b.WriteString(detection.begin())
	fmt.Fprintf(b, `
## Detection

Measured on %s, commit %s, Linux %s, load before: %s.

`, r.began.UTC().Format("2006-01-02"), "`"+r.machine.version+"`", r.machine.kernel, r.machine.load)
	b.WriteString(`With all built-in detectors and rules and a hundred rules of users, on one core, an event of ordinary work that matches nothing
takes this long: of opens, programs, names, connections and claims in the proportions of a build, each event's best of
many rounds. That it allocates nothing is a test.

| | median ns | mean ns | most ns | bytes | allocations |
|---|---:|---:|---:|---:|---:|
`)
	for _, m := range r.work {
		fmt.Fprintf(b, "| event | %.0f | %.0f | %.0f | %.0f | %.0f |\n", m.metrics["median-ns/event"], m.metrics["mean-ns/event"],
			m.metrics["max-ns/event"], m.metrics["B/op"], m.metrics["allocs/op"])
	}
	fmt.Fprintf(b, `
From the event in the kernel until an exporter has the finding, while one sandbox makes 20,000 events a second and reads
a secret ten times a second. Everything that %s is but the journal, with the load on the same processors, at
real-time priority, so that other work on the machine does not count. Half of it is the reader's pause of 20 ms.

| run | events/s | lost | findings | p50 ms | p99 ms | most ms |
|---|---:|---:|---:|---:|---:|---:|
`, "`watchglass collect`")
	for i, m := range r.findings {
		fmt.Fprintf(b, "| %d | %.0f | %.0f | %.0f | %.1f | %.1f | %.1f |\n", i+1, m.metrics["events/s"], m.metrics["lost"],
			m.metrics["findings"], m.metrics["p50-ms"], m.metrics["p99-ms"], m.metrics["max-ms"])
	}
	b.WriteString(detection.end())
}

// updateDetection measures the section alone and puts it in its place in the page.
func updateDetection(ctx context.Context, page string) error {
	r := results{machine: describeMachine(), began: time.Now()}
	if err := r.measureDetection(ctx); err != nil {
		return err
	}
	var b strings.Builder
	writeDetection(&b, &r)
	return detection.update(page, b.String())
}
