// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNewestPackageComesLast(t *testing.T) {
	names := []string{
		"linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64",
		"linux-image-6.1.0-56-cloud-amd64-unsigned", "linux-image-6.1.0-47-cloud-amd64",
	}
	slices.SortFunc(names, compareVersions)
	want := []string{
		"linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-47-cloud-amd64",
		"linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64-unsigned",
	}
	if !slices.Equal(names, want) {
		t.Errorf("order is %v, want %v", names, want)
	}
}

func TestVerdictIsTheMachinesLastWord(t *testing.T) {
	for _, c := range []struct{ console, verdict, shown string }{
		{"=== RUN\r\nPASS\r\nVM-EXIT 0\r\n", "0", "6.1\t=== RUN\n6.1\tPASS\n"},
		{"VM-EXIT 0\nVM-EXIT 1\n", "1", ""},
		{"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\r\n\x1bcVM-EXIT 0\n", "0", "6.1\tSeaBIOS\n"},
		{"Kernel panic\n", "", "6.1\tKernel panic\n"},
	} {
		var shown strings.Builder
		if got := follow(strings.NewReader(c.console), machine{name: "6.1", out: &console{to: &shown}}); got != c.verdict || shown.String() != c.shown {
			t.Errorf("follow(%q) = %q and shows %q, want %q and %q", c.console, got, shown.String(), c.verdict, c.shown)
		}
	}
}

// TestArguments: a machine whose clock counts instructions has one processor, nothing in it is drawn by lot, and what its
// processor can is what it was when others were counted.
func TestArguments(t *testing.T) {
	const limit = 25 * time.Minute
	for _, c := range []struct {
		machine       machine
		want, without string
	}{
		{machine{plan: "tracepoint"}, "qemu-system-x86_64 -cpu max,-erms,-fsrm,-cx16 -append ", "-icount"},
		{machine{plan: "tracepoint", counted: true}, "qemu-system-x86_64 -cpu max -append ", "erms"},
		{machine{plan: "trampoline", limit: limit, share: "2/3"}, "watchglass.plan=trampoline watchglass.limit=25m0s watchglass.share=2/3 -accel tcg,thread=single -smp 2 ", "-icount"},
		{machine{plan: "tracepoint", limit: limit, brief: true}, "watchglass.plan=tracepoint watchglass.limit=25m0s watchglass.brief=1 -accel ", "share"},
		{machine{plan: "auto", limit: limit, counted: true}, "watchglass.plan=auto watchglass.limit=25m0s " + countedArguments + " -icount shift=0,sleep=off -seed 1 -rtc base=2026-01-01,clock=vm -accel tcg,thread=single -smp 1 ", "share"},
	} {
		emulator, err := emulatorOf("amd64", c.machine.counted)
		if err != nil {
			t.Fatal(err)
		}
		given := slices.Clone(emulator)
		c.machine.emulator, c.machine.kernel = emulator, &kernel{}
		got := strings.Join(append(slices.Clone(emulator[:1]), c.machine.arguments()...), " ")
		if !strings.Contains(got, c.want) || strings.Contains(got, c.without) {
			t.Errorf("arguments are %q, want %q in them and %q not", got, c.want, c.without)
		}
		if !slices.Equal(emulator, given) {
			t.Errorf("the emulator's arguments became %q", emulator)
		}
	}
}

// TestTestArguments: benchmarks are run in place of tests, once each.
func TestTestArguments(t *testing.T) {
	const limit = 25 * time.Minute
	for _, c := range []struct {
		options options
		want    string
	}{
		{options{limit: limit, run: "^TestKernel"}, "-test.short\n-test.timeout=25m0s\n-test.run=^TestKernel\n"},
		{options{limit: limit, run: "^TestKernel", verbose: true}, "-test.short\n-test.timeout=25m0s\n-test.run=^TestKernel\n-test.v\n"},
		{options{limit: limit, run: "^TestKernel", skip: "trampoline:^TestKernelPins"}, "-test.short\n-test.timeout=25m0s\n-test.run=^TestKernel\n-test.skip=^TestKernelPins\n"},
		{options{limit: limit, run: "^TestKernel", skip: "tracepoint:^TestKernelPins"}, "-test.short\n-test.timeout=25m0s\n-test.run=^TestKernel\n"},
		{options{limit: limit, run: "^TestKernel", bench: "^BenchmarkNode$"}, "-test.short\n-test.timeout=25m0s\n-test.run=^$\n-test.bench=^BenchmarkNode$\n-test.benchtime=1x\n"},
	} {
		if got := testArguments(&c.options, "trampoline"); got != c.want {
			t.Errorf("arguments of %+v are %q, want %q", c.options, got, c.want)
		}
	}
	for what, o := range map[string]options{
		"benchmarks are run in shares":                     {limit: limit, bench: ".", shares: 2},
		"tests are left out of a plan that none is run of": {limit: limit, shares: 1, plans: []string{"tracepoint"}, skip: "trampoline:^TestKernelPins"},
		"tests are run in no time":                         {shares: 1, plans: []string{"tracepoint"}},
		"a variable has no name":                           {limit: limit, shares: 1, plans: []string{"tracepoint"}, env: []string{"=x"}},
	} {
		o.arch, o.packages = "amd64", []string{"./bpf"}
		if err := matrix(t.Context(), o); err == nil {
			t.Error(what)
		}
	}
}
