// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// kernelWork is a loop that makes the kernel run programs, and the programs that it is meant to measure.
type kernelWork struct {
	name string
	// action and args are what the helper does; count is how often.
	action string
	args   func(b *testing.B) []string
	count  int
	// programs are measured while it runs.
	programs []string
	// sandboxes is how many others are watched meanwhile; root is whether packet programs hang at the root cgroup too.
	sandboxes int
	root      bool
}

func kernelWorks() []kernelWork {
	return []kernelWork{
		{
			name: "getppid", action: "bench getppid", count: 300_000,
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "getppid-1000-sandboxes", action: "bench getppid", count: 300_000, sandboxes: 1000,
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "getppid-10000-sandboxes", action: "bench getppid", count: 300_000, sandboxes: 10_000,
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "read", action: "bench read", count: 100_000, args: fileAtDepth(3, "file"),
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "open-depth-3", action: "bench open", count: 50_000, args: fileAtDepth(3, "watched"),
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "open-depth-3-threads", action: "bench open-shared", count: 50_000, args: fileAtDepth(3, "watched"),
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "open-depth-16", action: "bench open", count: 50_000, args: fileAtDepth(16, "watched"),
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "open-repeated", action: "bench open", count: 50_000, args: fileAtDepth(3, "file"),
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "open-repeated-threads", action: "bench open-shared", count: 50_000, args: fileAtDepth(3, "file"),
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "open-missing", action: "bench open", count: 50_000,
			args:     func(*testing.B) []string { return []string{"/usr/share/no/such/file"} },
			programs: []string{"syscall_on_sys_exit"},
		},
		{
			name: "exec", action: "bench exec", count: 1000,
			programs: []string{
				"process_on_exec", "process_on_newtask", "process_on_exit",
			},
		},
		{
			name: "tcp-connect", action: "bench connect", count: 5000, args: listening,
			programs: []string{"network_on_connect4", "network_on_set_state", "syscall_on_sys_exit", "dns_on_ingress", "dns_on_egress"},
		},
		{
			name: "udp-sendto", action: "bench sendto", count: 100_000, args: listening,
			programs: []string{"network_on_sendmsg4"},
		},
		{
			// Outside, no packet runs a program; inside, those of UDP are counted.
			name: "udp-packet", action: "bench datagram", count: 100_000,
			programs: []string{"dns_on_egress", "dns_on_ingress"},
		},
		{
			// Of no interest inside either, once the connection's first bytes have been shown.
			name: "tcp-packet", action: "bench stream", count: 100_000, args: listening,
			programs: []string{"dns_on_egress", "dns_on_ingress"},
		},
		{
			// While programs hang at the root cgroup: of no interest outside, seen by others inside.
			name: "udp-packet-root", action: "bench datagram", count: 100_000, root: true,
			programs: []string{"dns_on_egress_rest", "dns_on_ingress_rest"},
		},
		{
			name: "tcp-packet-root", action: "bench stream", count: 100_000, args: listening, root: true,
			programs: []string{"dns_on_egress_rest", "dns_on_ingress_rest"},
		},
	}
}

// fileAtDepth makes a file whose path has so many elements. One that is called "watched" is told each time.
func fileAtDepth(depth int, name string) func(b *testing.B) []string {
	return func(b *testing.B) []string {
		dir, err := os.MkdirTemp("/tmp", "wg")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
		deep := dir + strings.Repeat("/directory", depth-3)
		if err := os.MkdirAll(deep, 0o755); err != nil {
			b.Fatal(err)
		}
		file := filepath.Join(deep, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			b.Fatal(err)
		}
		return []string{file}
	}
}

// listening is the address of a TCP server that takes connections and closes them when their peer does.
func listening(b *testing.B) []string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	return []string{listener.Addr().String()}
}

// benchWarmUp is how often a work is done before the loop, benchSettle how long user space then has to take note.
const (
	benchWarmUp = 4
	benchSettle = 300 * time.Millisecond
)

// helperBench does one loop: its name, how often, and what on.
func helperBench(name string) helperAction {
	return func(args []string) (string, error) {
		count, err := strconv.Atoi(args[0])
		if err != nil {
			return "", err
		}
		do := benchStep(name, args[1:])
		// What user space has to know before it is cheap, it knows then: the loop may be over before it looks.
		for range benchWarmUp {
			if err := do(); err != nil {
				return "", err
			}
		}
		time.Sleep(benchSettle)
		for range count {
			if err := do(); err != nil {
				return "", err
			}
		}
		return "", nil
	}
}

func benchStep(name string, args []string) func() error {
	switch name {
	case "getppid":
		return func() error { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); return nil }
	case "open":
		return openStep(args[0], false)
	case "open-shared":
		return openStep(args[0], true)
	case "read":
		return readStep(args)
	case "exec":
		return func() error { return exec.Command("/bin/true", "one", "two", "three").Run() }
	case "connect":
		return func() error {
			conn, err := net.Dial("tcp", args[0])
			if err != nil {
				return err
			}
			return conn.Close()
		}
	case "datagram":
		return datagramStep()
	case "stream":
		return streamStep(args)
	default:
		return sendStep(args)
	}
}

// openStep opens a file and closes it, as a program of one thread does: with descriptors that no other thread can
// change; shared is as one of several.
func openStep(path string, shared bool) func() error {
	var err error
	if !shared {
		// The runtime's poller makes a descriptor when it is first needed: all threads must have it.
		time.Sleep(time.Millisecond)
		runtime.LockOSThread()
		err = unix.Unshare(unix.CLONE_FILES)
	}
	return func() error {
		if err != nil {
			return err
		}
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

// datagramStep sends a datagram from one socket of the process to another one and takes it there.
func datagramStep() func() error {
	from, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return func() error { return err }
	}
	to, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err == nil {
		err = unix.Bind(to, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var bound unix.Sockaddr
	if err == nil {
		bound, err = unix.Getsockname(to)
	}
	if err == nil {
		err = unix.Connect(from, bound)
	}
	b := []byte("x")
	return func() error {
		if err == nil {
			_, err = unix.Write(from, b)
		}
		if err == nil {
			_, err = unix.Read(to, b)
		}
		return err
	}
}

// streamStep sends on one connection, of which more than the kernel side shows was sent before.
func streamStep(args []string) func() error {
	conn, err := net.Dial("tcp", args[0])
	if err == nil {
		_, err = conn.Write(make([]byte, 64<<10))
	}
	b := []byte("x")
	return func() error {
		if err == nil {
			_, err = conn.Write(b)
		}
		return err
	}
}

// readStep reads a byte of one file, again and again.
func readStep(args []string) func() error {
	fd, err := unix.Open(args[0], unix.O_RDWR, 0)
	if err == nil {
		_, err = unix.Pwrite(fd, []byte("x"), 0)
	}
	var b [1]byte
	return func() error {
		if err == nil {
			_, err = unix.Pread(fd, b[:], 0)
		}
		return err
	}
}

// sendStep sends datagrams to one destination from one socket.
func sendStep(args []string) func() error {
	_, port, _ := net.SplitHostPort(args[0])
	number, _ := strconv.Atoi(port)
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: number}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	return func() error {
		if err != nil {
			return err
		}
		return unix.Sendto(fd, []byte("x"), 0, to)
	}
}

// benchWork chooses works: what -bench does not, since a work is done once for all programs that it measures.
var benchWork = flag.String("work", "", "a regular expression of the works that BenchmarkKernel does")

// BenchmarkKernel measures what each program costs in the kernel, in and out of scope, beside an empty
// program on the same hook at the same time (whose time is that of the two clock reads around it).
// Metrics: ns/run of the program, empty-ns/run, and their ratio. What other processes of the machine do
// meanwhile is in the means too: run it on an idle one.
func BenchmarkKernel(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	// What is refused costs less than what is told: the loops send more than any budget, as fast as they can.
	t := benchTracerWith(b, func(cfg *Config) { cfg.BulkBudget, cfg.KeptBudget, cfg.RingBytes = 0, 0, 64<<20 })
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	only := regexp.MustCompile(*benchWork)
	for _, work := range kernelWorks() {
		if !only.MatchString(work.name) {
			continue
		}
		args := []string{}
		if work.args != nil {
			args = work.args(b)
		}
		measured := t.measuredPrograms(b, &work)
		t.watchOthers(b, work.sandboxes)
		t.hangAtRoot(work.root)
		for _, place := range []string{"inside", "outside"} {
			for _, m := range measured {
				m.means, m.emptyMeans, m.idle = nil, nil, false
			}
			for range b.N {
				for range benchRepetitions {
					t.measure(b, &work, args, measured, place == "inside")
				}
			}
			for _, m := range measured {
				b.Run(work.name+"/"+m.name+"/"+place, m.report)
			}
		}
	}
}

// benchRepetitions is how often each work is done: the means are reported by the best of them, the
// ratios by the one in the middle.
const benchRepetitions = 5

// measuredProgram is a program, an empty one beside it, and what was measured of both so far.
type measuredProgram struct {
	name           string
	program, empty *ebpf.Program
	// means and emptyMeans are in nanoseconds a run, one for each repetition in which the program ran.
	means, emptyMeans []float64
	// idle is whether the empty one ran and the program did not.
	idle bool
}

func (m *measuredProgram) report(b *testing.B) {
	if len(m.means) == 0 && m.idle {
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(0, "runs")
		return
	}
	if len(m.means) == 0 {
		b.Skip("it did not run")
	}
	var ratios []float64
	for i := range m.means {
		ratios = append(ratios, m.means[i]/m.emptyMeans[i])
	}
	slices.Sort(ratios)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(slices.Min(m.means), "ns/run")
	b.ReportMetric(slices.Min(m.emptyMeans), "empty-ns/run")
	b.ReportMetric(ratios[len(ratios)/2], "x-empty")
}

// measuredPrograms attaches an empty program beside each that the work is to measure.
func (t *benchedTracer) measuredPrograms(b *testing.B, work *kernelWork) []*measuredProgram {
	b.Helper()
	var measured []*measuredProgram
	for _, name := range work.programs {
		program, spec := t.program(name)
		if program == nil {
			b.Fatalf("no program %s", name)
		}
		measured = append(measured, &measuredProgram{name: name, program: program, empty: attachEmpty(b, t.mount, spec)})
	}
	return measured
}

// watchOthers enters so many more cgroups into the kernel's map, which need not be there, and takes out all others.
func (t *benchedTracer) watchOthers(b *testing.B, count int) {
	b.Helper()
	const first = 1 << 40 // beyond every cgroup's id
	for ; t.others > count; t.others-- {
		if err := t.shared["sandboxes"].Delete(uint64(first + t.others)); err != nil {
			b.Fatal(err)
		}
	}
	for ; t.others < count; t.others++ {
		id := uint64(first + t.others + 1)
		if err := t.shared["sandboxes"].Put(id, id); err != nil {
			b.Fatal(err)
		}
	}
}

// hangAtRoot has packet programs hang at the root cgroup, as for a sandbox that has no place of its own, or no longer.
func (t *benchedTracer) hangAtRoot(want bool) {
	s := t.places
	s.mu.Lock()
	defer s.mu.Unlock()
	s.linger, s.unplaced, s.why = 0, 0, errPlacesFull
	if want {
		s.unplaced = 1
	}
	s.tendLocked(time.Now())
}

// measure does the work once in or out of the sandbox.
func (t *benchedTracer) measure(b *testing.B, work *kernelWork, args []string, measured []*measuredProgram, inside bool) {
	b.Helper()
	before := make([][2]*ebpf.ProgramStats, len(measured))
	for i, m := range measured {
		before[i] = [2]*ebpf.ProgramStats{programStats(b, m.program), programStats(b, m.empty)}
	}
	runBench(b, t, work, args, inside)
	if n := t.refused(b); n > t.lost {
		b.Logf("%s: %d records were refused: what was measured is not their making", work.name, n-t.lost)
		t.lost = n
	}
	for i, m := range measured {
		mean, ran := meanRun(before[i][0], programStats(b, m.program))
		emptyMean, emptyRan := meanRun(before[i][1], programStats(b, m.empty))
		if ran && emptyRan {
			m.means, m.emptyMeans = append(m.means, mean), append(m.emptyMeans, emptyMean)
		}
		m.idle = emptyRan && !ran
	}
}

// refused is how many records of the sandbox were lost or throttled so far.
func (t *benchedTracer) refused(b *testing.B) uint64 {
	b.Helper()
	counts, err := t.Counts()
	if err != nil {
		b.Fatal(err)
	}
	var n uint64
	for i := range counts {
		n += counts[i].Dropped + counts[i].Throttled
	}
	return n
}

// benchedTracer is a tracer at work, and the sandbox that it watches.
type benchedTracer struct {
	*Tracer
	cgroup string
	// others is how many cgroups are watched besides, lost how many records were refused so far.
	others int
	lost   uint64
}

// benchTracer starts a tracer that throws its records away.
func benchTracer(b *testing.B) *benchedTracer {
	b.Helper()
	return benchTracerWith(b, func(*Config) {})
}

// benchTracerWith is benchTracer with another configuration.
func benchTracerWith(b *testing.B, change func(*Config)) *benchedTracer {
	b.Helper()
	t, end := openBenched(b, change)
	b.Cleanup(end)
	return t
}

// openBenched is benchTracerWith for a tracer that ends when the caller says so.
func openBenched(b *testing.B, change func(*Config)) (t *benchedTracer, end func()) {
	b.Helper()
	beAlone(b)
	cfg := testConfig()
	cfg.Watched = func(path string) bool { return filepath.Base(path) == "watched" }
	change(&cfg)
	tracer, err := Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp(tracer.mount, "watchglass-bench-")
	if err != nil {
		b.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		b.Fatal(err)
	}
	if err := tracer.Track(stat.Ino); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tracer.Run(ctx, func(*Record) {}) }()
	return &benchedTracer{Tracer: tracer, cgroup: dir}, func() {
		stop()
		if err := errors.Join(<-done, tracer.Close(), os.Remove(dir)); err != nil {
			b.Error(err)
		}
	}
}

// program finds a loaded program and how it was specified.
func (t *benchedTracer) program(name string) (*ebpf.Program, *ebpf.ProgramSpec) {
	for i := range t.probes {
		p := &t.probes[i]
		if p.collection == nil || p.collection.Programs[name] == nil {
			continue
		}
		spec, err := p.load()
		if err != nil {
			return nil, nil
		}
		return p.collection.Programs[name], spec.Programs[name]
	}
	return nil, nil
}

// attachEmpty attaches a program that does nothing where spec is attached.
func attachEmpty(b *testing.B, mount string, spec *ebpf.ProgramSpec) *ebpf.Program {
	b.Helper()
	verdict := int32(0)
	if spec.Type != ebpf.Tracing {
		verdict = 1 // let it pass
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: spec.Type, AttachType: spec.AttachType, AttachTo: spec.AttachTo, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	var attached link.Link
	if spec.Type == ebpf.Tracing {
		attached, err = link.AttachTracing(link.TracingOptions{Program: program})
	} else {
		attached, err = link.AttachCgroup(link.CgroupOptions{Path: mount, Attach: spec.AttachType, Program: program})
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = attached.Close()
		_ = program.Close()
	})
	return program
}

func programStats(b *testing.B, program *ebpf.Program) *ebpf.ProgramStats {
	b.Helper()
	stats, err := program.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return stats
}

// meanRun is the mean time of the runs between two readings, false when there was none.
func meanRun(before, after *ebpf.ProgramStats) (float64, bool) {
	runs := after.RunCount - before.RunCount
	if runs == 0 {
		return 0, false
	}
	return float64(after.Runtime-before.Runtime) / float64(runs), true
}

// runBench runs the work in a process of its own.
func runBench(b *testing.B, t *benchedTracer, work *kernelWork, args []string, inside bool) {
	b.Helper()
	args = append([]string{"-test.run=^TestHelperProcess$", "--", strconv.Itoa(work.count)}, args...)
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), helperVariable+"="+work.action)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if inside {
		dir, err := os.Open(t.cgroup)
		if err != nil {
			b.Fatal(err)
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("helper %s: %v\n%s", work.action, err, out)
	}
}

// BenchmarkMemory reports the kernel memory of maps and programs with the default configuration.
func BenchmarkMemory(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	for range b.N {
		t := benchTracer(b)
		maps := map[uint32]bool{}
		var mapBytes, programBytes uint64
		for i := range t.probes {
			c := t.probes[i].collection
			if c == nil {
				continue
			}
			for _, m := range c.Maps {
				mapBytes += mapMemory(b, m, maps)
			}
			for _, p := range c.Programs {
				if info, err := p.Info(); err == nil {
					size, _ := info.Memlock()
					programBytes += size
				}
			}
		}
		b.ReportMetric(float64(mapBytes), "map-bytes")
		b.ReportMetric(float64(programBytes), "program-bytes")
	}
}

// mapMemory is what a map takes, 0 when it was counted already: several probes share some.
func mapMemory(b testing.TB, m *ebpf.Map, counted map[uint32]bool) uint64 {
	b.Helper()
	info, err := m.Info()
	if err != nil {
		b.Fatal(err)
	}
	id, _ := info.ID()
	if counted[uint32(id)] {
		return 0
	}
	counted[uint32(id)] = true
	size, _ := info.Memlock()
	// Kernels before 6.4 say of a map that grows as it is filled what it could take at most.
	if most := uint64(info.MaxEntries) * uint64(info.ValueSize); info.Flags&unix.BPF_F_NO_PREALLOC != 0 && most > 0 && size >= most {
		size = size / uint64(info.MaxEntries) * entries(b, m)
	}
	b.Logf("map %-16s %9d bytes", info.Name, size)
	return size
}

// entries is how many entries a map has.
func entries(b testing.TB, m *ebpf.Map) uint64 {
	b.Helper()
	n, key := uint64(0), make([]byte, m.KeySize())
	for err := m.NextKey(nil, key); ; err = m.NextKey(key, key) {
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return n
		}
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// BenchmarkDecode decodes recorded records, one of each kind.
func BenchmarkDecode(b *testing.B) {
	d := testDecoder()
	for name, data := range recorded(b, "") {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.decode(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// instructionsFile holds how many instructions the verifier went through, by kernel and program.
const instructionsFile = "testdata/instructions.txt"

// unrecordedInstructions is how many a program may take where no numbers of the kernel are recorded: a tenth of what a
// verifier goes through before it refuses.
const unrecordedInstructions = 100_000

// TestKernelInstructions holds the verifier's work against what is committed: growth is a reviewed diff.
// Record it with -update. The numbers are of one kernel version: on another one, under either plan, all programs are held to
// one limit.
func TestKernelInstructions(t *testing.T) {
	requireKernel(t)
	tracer := startWatch(t).tracer
	kernel := kernelVersion(t)
	recorded := readInstructions(t)
	got := map[string]uint32{}
	for i := range tracer.probes {
		c := tracer.probes[i].collection
		if c == nil {
			continue
		}
		for name, program := range c.Programs {
			info, err := program.Info()
			if err != nil {
				t.Fatal(err)
			}
			n, _ := info.VerifiedInstructions()
			got[kernel+" "+name] = n
		}
	}
	if *update {
		writeInstructions(t, recorded, got, kernel)
		return
	}
	known := false
	for name := range recorded {
		known = known || strings.HasPrefix(name, kernel+" ")
	}
	for name, n := range got {
		if !known {
			if n == 0 || n > unrecordedInstructions {
				t.Errorf("%s: %d instructions verified, want some, and at most %d", name, n, unrecordedInstructions)
			}
			continue
		}
		// The verifier differs a little between builds of one version.
		if limit := recorded[name] + recorded[name]/10; n > limit {
			t.Errorf("%s: %d instructions verified, recorded are %d; if that is right, record it with -update", name, n, recorded[name])
		}
	}
}

// kernelVersion is the running kernel's major and minor version.
func kernelVersion(t *testing.T) string {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(unix.ByteSliceToString(name.Release[:]), ".", 3)
	return parts[0] + "." + parts[1]
}

func readInstructions(t *testing.T) map[string]uint32 {
	t.Helper()
	recorded := map[string]uint32{}
	text, err := os.ReadFile(instructionsFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kernel, name string
		var n uint32
		if _, err := fmt.Sscan(line, &kernel, &name, &n); err != nil {
			t.Fatalf("%s: %q: %v", instructionsFile, line, err)
		}
		recorded[kernel+" "+name] = n
	}
	return recorded
}

// writeInstructions replaces the numbers of one kernel.
func writeInstructions(t *testing.T, recorded, got map[string]uint32, kernel string) {
	t.Helper()
	for name := range recorded {
		if strings.HasPrefix(name, kernel+" ") {
			delete(recorded, name)
		}
	}
	var lines []string
	for _, numbers := range []map[string]uint32{recorded, got} {
		for name, n := range numbers {
			lines = append(lines, fmt.Sprintf("%s %d\n", name, n))
		}
	}
	slices.Sort(lines)
	if err := os.WriteFile(instructionsFile, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
}
