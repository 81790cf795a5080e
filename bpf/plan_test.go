// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// TestKernelPlan holds the probes to the plan that is asked for, and a plan without tracepoints to having none.
func TestKernelPlan(t *testing.T) {
	requireKernel(t)
	beAlone(t)
	before := callTime()
	w := startWatch(t)
	plan := w.tracer.Plan()
	t.Logf("the cheapest system call of a process outside takes %.3f times what it did", float64(callTime())/float64(before))
	if asked := Plan(os.Getenv(planVariable)); asked != "" && asked != PlanAuto && plan != asked {
		t.Errorf("the plan %s is followed, %s was asked for", plan, asked)
	}
	if plan != PlanTracepoint && plan != PlanTrampoline {
		t.Fatalf("no plan is followed: %q", plan)
	}
	t.Logf("the plan %s is followed: %s", plan, w.tracer.planReason)
	taxed := false
	for _, p := range w.tracer.Probes() {
		if p.Plan == "" {
			continue
		}
		t.Logf("probe %s: plan %s %s", p.Name, p.Plan, p.Fallback)
		taxed = taxed || p.Plan == string(PlanTracepoint)
		if p.Fallback == "" && p.Plan != string(plan) {
			t.Errorf("probe %s follows the plan %s, and does not say why", p.Name, p.Plan)
		}
		if p.Fallback != "" && !mayFallBack(p) {
			t.Errorf("probe %s fell back: %s", p.Name, p.Fallback)
		}
		if p.Missed != 0 {
			t.Errorf("probe %s missed %d calls", p.Name, p.Missed)
		}
	}
	if os.Getenv("WATCHGLASS_VM") == "" {
		return // others may have attached what they like
	}
	if found := syscallLinks(t); (found > 0) != taxed {
		t.Errorf("%d links to system call tracepoints are there; any expected: %v", found, taxed)
	}
}

// follows says whether a probe follows a plan, which may be another than the tracer's.
func (w *watch) follows(probe string, plan Plan) bool {
	return slices.ContainsFunc(w.tracer.Probes(), func(p event.ProbeStats) bool { return p.Name == probe && p.Plan == string(plan) })
}

// callTime is how long many system calls that nothing looks at take, at best.
func callTime() (best time.Duration) {
	calls := 20_000
	if testing.Short() {
		calls = 1000 // each takes an emulated machine some microseconds
	}
	for range 20 {
		began := time.Now()
		for range calls {
			_, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		if took := time.Since(began); best == 0 || took < best {
			best = took
		}
	}
	return best
}

// mayFallBack says whether a probe's falling back is that of a kernel without what it needs: the notable probe needs
// CONFIG_FPROBE, which Debian's 6.1 lacks, or CONFIG_KPROBE_EVENTS and CONFIG_KRETPROBES.
func mayFallBack(p event.ProbeStats) bool {
	return p.Name == "notable" && !followsReturns()
}

// followsReturns says whether the kernel has a way to hang on the returns of many functions.
func followsReturns() bool {
	return hasSymbols("register_fprobe_ips") || hasSymbols("create_local_trace_kprobe", "register_kretprobe")
}

// hasSymbols says whether the kernel has all of some functions.
func hasSymbols(names ...string) bool {
	symbols, err := os.ReadFile("/proc/kallsyms")
	return err == nil && !slices.ContainsFunc(names, func(name string) bool { return !strings.Contains(string(symbols), " "+name+"\n") })
}

// syscallLinks is how many BPF links of this machine are to tracepoints that all system calls pass.
func syscallLinks(t *testing.T) (n int) {
	t.Helper()
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			t.Fatal(err)
		}
		if raw := info.RawTracepoint(); raw != nil && (raw.Name == "sys_exit" || raw.Name == "sys_enter") {
			n++
		}
	}
	if err := links.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestKernelPlanAuto: where no plan is asked for that of kernel functions is followed only where it is by all probes. One that
// falls back has the node pay for both.
func TestKernelPlanAuto(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.Plan = PlanAuto
	w := startWatchWith(t, cfg)
	t.Logf("the plan %s is followed: %s", w.tracer.Plan(), w.tracer.planReason)
	if w.tracer.Plan() != PlanTrampoline && tryFexit() == nil && followsReturns() {
		t.Error("the kernel has all that the other plan needs")
	}
	for _, p := range w.tracer.Probes() {
		if p.Fallback != "" {
			t.Errorf("probe %s follows the plan %s: %s", p.Name, p.Plan, p.Fallback)
		}
	}
}

// TestPlan chooses plans that need no kernel.
func TestPlan(t *testing.T) {
	if c, err := PlanTracepoint.choose(); c.plan != PlanTracepoint || c.why == "" || err != nil {
		t.Errorf("tracepoint becomes %+v, %v", c, err)
	}
	if err := Plan("kprobes").Validate(); err == nil {
		t.Error("kprobes is taken for a plan")
	}
	if c := chooseHanging(returning{}); c.plan != PlanTrampoline || c.why == "" || c.returns.each {
		t.Errorf("where programs can hang on all functions auto becomes %+v", c)
	}
	if c := chooseHanging(returning{each: true}); c.plan != PlanTrampoline || !c.returns.each || !strings.Contains(c.why, "kretprobes") {
		t.Errorf("where they can hang on many one by one auto becomes %+v", c)
	}
	if c := chooseHanging(returning{err: unix.EOPNOTSUPP}); c.plan != PlanTracepoint || !strings.Contains(c.why, unix.EOPNOTSUPP.Error()) {
		t.Errorf("where they cannot hang on many auto becomes %+v", c)
	}
	for _, test := range []struct {
		counting Counting
		plan     Plan
		want     bool
	}{
		{CountAuto, PlanTracepoint, true},
		{"", PlanTracepoint, true},
		{CountAuto, PlanTrampoline, false},
		{CountOn, PlanTrampoline, true},
		{CountOff, PlanTracepoint, false},
	} {
		cfg := Config{SyscallCounts: test.counting}
		if got := cfg.countsCalls(test.plan); got != test.want {
			t.Errorf("%q under the plan %s: %v", test.counting, test.plan, got)
		}
	}
}
