// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/watchglass/watchglass/event"
)

// refuse has the kernel refuse one program of a probe, which returns nothing.
func refuse(t *testing.T, tracer *Tracer, name, program string) {
	t.Helper()
	for i := range tracer.probes {
		p := &tracer.probes[i]
		if p.name != name {
			continue
		}
		load := p.load
		p.load = func() (*ebpf.CollectionSpec, error) {
			spec, err := load()
			if err == nil && spec.Programs[program] == nil {
				err = fmt.Errorf("there is no program %s", program)
			}
			if err == nil {
				spec.Programs[program].Instructions = asm.Instructions{asm.Return()}
			}
			return spec, err
		}
		return
	}
	t.Fatalf("there is no probe %s", name)
}

// degradedTest is a watch whose probes are not all attached.
type degradedTest struct {
	*watch
}

// hold holds the tracer's word to what was broken, and the rest to working.
func (d *degradedTest) hold(broken map[string]string) {
	d.t.Helper()
	for _, p := range d.tracer.Probes() {
		program, is := broken[p.Name]
		switch {
		case !is && (!p.Attached || p.Err != ""):
			d.t.Errorf("probe %s was taken down by another: %s", p.Name, p.Err)
		case is && (p.Attached || !strings.Contains(p.Err, program)):
			d.t.Errorf("probe %s: attached %v, and says %q, not of %s", p.Name, p.Attached, p.Err, program)
		case is && len(p.Kinds) == 0:
			d.t.Errorf("probe %s does not say what may be lost", p.Name)
		}
	}
	dir := makeFiles(d.t)
	helper := d.run(helperRun{action: "socket", args: []string{"raw", dir}})
	pid := helper.pid
	d.await(1, of[*event.ProcessExit](int(pid)))
	for kind, pick := range map[string]func(*Record) bool{
		"exec": func(r *Record) bool { _, ok := r.Payload.(*event.ProcessExec); return ok && r.Task.PID == pid },
		"open": func(r *Record) bool { _, ok := r.Payload.(*event.FileOpen); return ok && r.Task.PID == pid },
		// By a program of the probe that is degraded.
		"socket": func(r *Record) bool { return socketOf(r) != nil && r.Task.PID == pid },
	} {
		if len(d.seen(pick)) == 0 {
			d.t.Errorf("no %s is told", kind)
		}
	}
}

// TestKernelProgramRefused: a program that the kernel refuses takes no other one down, not even of its own probe.
func TestKernelProgramRefused(t *testing.T) {
	requireKernel(t)
	const program = "network_on_set_state"
	w := startWatchDegraded(t, func() (*Tracer, error) {
		tracer, err := newTracer(testConfig())
		if err != nil {
			return nil, err
		}
		refuse(t, tracer, "network", program)
		return tracer, tracer.open()
	})
	d := &degradedTest{watch: w}
	d.hold(map[string]string{"network": program})
	for i := range w.tracer.probes {
		p := &w.tracer.probes[i]
		if p.name != "network" {
			continue
		}
		loaded := slices.Sorted(maps.Keys(p.collection.Programs))
		if slices.Contains(loaded, program) || len(loaded) < 5 {
			t.Errorf("of the probe's programs there are %q", loaded)
		}
		if p.plan != w.tracer.Plan() {
			t.Errorf("it gave up the plan for a program that is none of it: %v", p.fallback)
		}
	}
}

// TestKernelTrampolineRefused: where the kernel refuses a program of the trampoline plan the probe follows the other one, as
// a whole, and tells the same.
func TestKernelTrampolineRefused(t *testing.T) {
	requireKernel(t)
	w := startWatchDegraded(t, func() (*Tracer, error) {
		tracer, err := newTracer(testConfig())
		if err != nil {
			return nil, err
		}
		refuse(t, tracer, "file", "file_on_filp_open")
		return tracer, tracer.open()
	})
	d := &degradedTest{watch: w}
	d.hold(nil)
	if !w.follows("file", PlanTracepoint) {
		t.Error("the file probe does not follow the plan tracepoint")
	}
	for _, p := range w.tracer.Probes() {
		if p.Name == "file" && (p.Fallback != "") != (w.tracer.Plan() == PlanTrampoline) {
			t.Errorf("under the plan %s it says %q", w.tracer.Plan(), p.Fallback)
		}
	}
}

// TestKernelProgramNotAttached: programs that cannot be attached take no other down.
func TestKernelProgramNotAttached(t *testing.T) {
	requireKernel(t)
	var mount string
	w := startWatchDegraded(t, func() (*Tracer, error) {
		tracer, err := newTracer(testConfig())
		if err != nil {
			return nil, err
		}
		// Programs of cgroups have no place in what is no cgroup.
		mount, tracer.mount = tracer.mount, t.TempDir()
		if _, err := os.Stat(mount); err != nil {
			return nil, err
		}
		err = tracer.open()
		tracer.mount = mount
		return tracer, err
	})
	d := &degradedTest{watch: w}
	// The programs that see packets come later: they hang where the sandboxes are.
	d.hold(map[string]string{"network": "network_on_connect4"})
}

// TestKernelNotHandedOn: where the kernel refuses the program that hands calls on, and not all of its probe, each probe is on
// the hook by itself, and tells the same of processes of sandboxes and nothing of others.
func TestKernelNotHandedOn(t *testing.T) {
	requireKernel(t)
	const program = "syscall_on_sys_exit"
	w := startWatchDegraded(t, func() (*Tracer, error) {
		tracer, err := newTracer(onTracepoints())
		if err != nil {
			return nil, err
		}
		refuse(t, tracer, "syscall", program)
		return tracer, tracer.open()
	})
	w.opensAfterExec(t)
	outside := w.run(helperRun{action: "socket", args: []string{"raw", makeFiles(t)}, outside: true})
	inside := w.run(helperRun{action: "socket", args: []string{"raw", makeFiles(t)}})
	told := w.await(1, func(r *Record) bool { return socketOf(r) != nil && r.Task.PID == inside.pid })
	if len(told) != 1 {
		t.Errorf("%d sockets are told, want 1", len(told))
	}
	if got := w.seen(func(r *Record) bool { return r.Task.PID == outside.pid }); len(got) != 0 {
		t.Errorf("saw %d records of a process outside of the sandbox, want none", len(got))
	}
}
