// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// goBenchmark is one line of `go test -bench`: the name without "Benchmark", and its metrics by unit.
type goBenchmark struct {
	name    string
	metrics map[string]float64
}

// goBench runs Go benchmarks and reads what they print.
func goBench(ctx context.Context, pkg, pattern string, flags []string) ([]goBenchmark, error) {
	args := append([]string{"test", "-run", "^$", "-benchmem", "-bench", pattern}, flags...)
	out, err := exec.CommandContext(ctx, "go", append(args, pkg)...).CombinedOutput() //nolint:gosec // our own
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s %s: %w\n%s", pattern, pkg, err, out)
	}
	benchmarks := parseBenchmarks(string(out))
	if len(benchmarks) == 0 {
		return nil, fmt.Errorf("go test -bench %s %s: no results in:\n%s", pattern, pkg, out)
	}
	return benchmarks, nil
}

// parseBenchmarks reads the lines "BenchmarkName-2   COUNT   VALUE UNIT   VALUE UNIT …".
func parseBenchmarks(text string) []goBenchmark {
	var all []goBenchmark
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "Benchmark")
		if cut := strings.LastIndexByte(name, '-'); cut > 0 {
			if _, err := strconv.Atoi(name[cut+1:]); err == nil {
				name = name[:cut]
			}
		}
		b := goBenchmark{name: name, metrics: map[string]float64{}}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				break
			}
			b.metrics[fields[i+1]] = value
		}
		all = append(all, b)
	}
	return all
}
