// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// frontRun is how many places of a processor's table one run of the program empties (FRONTS_RUN): short enough to
// interrupt the processor for.
const frontRun = 128

// frontMaps is the maps in which each processor counts before it is added up.
func frontMaps() []string { return []string{"fronts", "front_latencies"} }

// fronts is what adds up what each processor has counted.
type fronts struct {
	settle *ebpf.Program
	places uint32
	cpus   int
}

func newFronts(c *ebpf.Collection) (fronts, error) {
	f := fronts{settle: c.Programs["syscall_settle"], places: c.Maps["fronts"].MaxEntries()}
	var err error
	f.cpus, err = ebpf.PossibleCPU()
	if err != nil {
		return f, fmt.Errorf("counting processors: %w", err)
	}
	return f, nil
}

// addUp has what all processors have counted until now added to the counters. forget has each process's sandbox looked up
// anew at its next call, for when it may be another one.
func (f *fronts) addUp(forget bool) error {
	arguments := [3]uint64{}
	if forget {
		arguments[2] = 1
	}
	for cpu := range f.cpus {
		for first := uint32(0); first < f.places; first += frontRun {
			arguments[0], arguments[1] = uint64(cpu), uint64(first)
			_, err := f.settle.Run(&ebpf.RunOptions{Context: arguments, CPU: uint32(cpu), Flags: unix.BPF_F_TEST_RUN_ON_CPU})
			if errors.Is(err, unix.ENXIO) {
				// The processor is off: nobody is at its table.
				_, err = f.settle.Run(&ebpf.RunOptions{Context: arguments})
			}
			if err != nil {
				return fmt.Errorf("adding up what processor %d counted of system calls: %w", cpu, err)
			}
		}
	}
	return nil
}

// prepareCounting tells the programs whether to count, and to measure; what is not needed gets no room.
func (t *Tracer) prepareCounting(spec *ebpf.CollectionSpec) error {
	counted, timed := t.cfg.countsCalls(t.plan), t.cfg.SyscallLatency
	for name, on := range map[string]bool{"syscalls_counted": counted, "syscalls_timed": timed, "transfers_counted": t.cfg.FileIO} {
		if !on {
			continue
		}
		if err := setConstants(spec, map[string]any{name: uint32(1)}); err != nil {
			return err
		}
	}
	if !counted {
		for _, name := range []string{"counters", "callers", "past_counters", "fronts"} {
			spec.Maps[name].MaxEntries = 1
		}
	}
	if !timed {
		delete(spec.Programs, "syscall_on_sys_enter")
		for _, name := range []string{"call_latencies", "front_latencies"} {
			spec.Maps[name].MaxEntries = 1
		}
	}
	return nil
}
