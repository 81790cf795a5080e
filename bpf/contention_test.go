// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// contentionCalls is how many calls each thread makes in BenchmarkKernelContention.
const contentionCalls = 1_000_000

// helperCallsOfThreads makes the same call again and again, from as many threads of one process as the argument says, each on a
// processor of its own.
func helperCallsOfThreads(args []string) (string, error) {
	threads, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	errs := make(chan error, threads)
	for cpu := range threads {
		go func() {
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(cpu % runtime.NumCPU())
			err := unix.SchedSetaffinity(0, &set)
			for range contentionCalls {
				unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
			}
			errs <- err
		}()
	}
	for range threads {
		err = errors.Join(err, <-errs)
	}
	return "", err
}

// BenchmarkKernelContention measures what counting a system call costs where two processors count the same calls of the same process,
// by what it costs where one does. With durations too, it is told what the program at the entry costs.
func BenchmarkKernelContention(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	for _, timed := range []bool{false, true} {
		b.Run("timed-"+strconv.FormatBool(timed), func(b *testing.B) { benchContention(b, timed) })
	}
}

func benchContention(b *testing.B, timed bool) {
	t := benchTracerWith(b, func(c *Config) { c.SyscallLatency = timed })
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	names := []string{"syscall_on_sys_exit"}
	if timed {
		names = append(names, "syscall_on_sys_enter")
	}
	work := &kernelWork{action: "thread calls", programs: names}
	measured := t.measuredPrograms(b, work)
	runs := map[int][]float64{}
	for range b.N {
		for range benchRepetitions {
			for _, threads := range []int{1, 2} {
				for _, m := range measured {
					m.means, m.emptyMeans = nil, nil
				}
				work.count = threads
				t.measure(b, work, nil, measured, true)
				var sum float64
				for _, m := range measured {
					if len(m.means) > 0 {
						sum += m.means[0] / m.emptyMeans[0]
					}
				}
				runs[threads] = append(runs[threads], sum)
			}
		}
	}
	for threads, ratios := range runs {
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], "x-empty-threads-"+strconv.Itoa(threads))
	}
	b.ReportMetric(0, "ns/op")
}
