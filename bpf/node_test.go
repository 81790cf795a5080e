// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// nodeWork is something that processes outside of every sandbox do. It is measured chunk by chunk, each so many times:
// the chunk in the middle is one that nothing disturbed.
type nodeWork struct {
	name          string
	chunks, times int
	// warmUp is how many chunks come before, and are not measured: the first answers on a connection are acknowledged one by one.
	warmUp int
}

// nodeWorks is those that this machine can do.
func nodeWorks() []nodeWork {
	works := []nodeWork{
		// A chunk is shorter than the time between two interrupts of the timer.
		{name: "getppid", chunks: 30, times: 1000, warmUp: 3},
		{name: "requests", chunks: 4, times: 500, warmUp: 3},
		{name: "build", chunks: 4, times: 4, warmUp: 3},
	}
	if _, err := exec.LookPath("go"); err == nil {
		works = append(works, nodeWork{name: "go-build", chunks: 4, times: 1, warmUp: 1})
	}
	return works
}

// nodeSettle is how long what else the machine has begun is waited for, such as the end of what the last tracer left: ten
// seconds after one of the plan trampoline a null call still took a tenth more.
const nodeSettle = time.Minute

// nodeTime is how long something took, in nanoseconds: own is the processor's time of the processes that did it, all what
// passed meanwhile, which on a machine of one processor is what everybody did, and rest that but for the process with the
// tracer: what the kernel puts off belongs to nobody.
type nodeTime struct{ own, rest, all float64 }

// nodeDoer does a work.
type nodeDoer struct {
	do func(times int) error
	// other is another process whose processor's time counts too, 0 for none.
	other int
	end   func() error
}

// helperNode measures a work: how many chunks, of how many times, after how many others. It says what one time took.
func helperNode(begin func() (nodeDoer, error)) helperAction {
	return func(args []string) (said string, err error) {
		chunks, err := strconv.Atoi(args[0])
		if err != nil {
			return "", err
		}
		times, err := strconv.Atoi(args[1])
		if err != nil {
			return "", err
		}
		warmUp, err := strconv.Atoi(args[2])
		if err != nil {
			return "", err
		}
		debug.SetGCPercent(-1) // it would come once in a while, and now in one state, now in the other
		doer, err := begin()
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, doer.end()) }()
		for range warmUp {
			if err := doer.do(times); err != nil {
				return "", fmt.Errorf("warming up: %w", err)
			}
		}
		var own []float64
		before, err := doer.now()
		began := before
		for range chunks {
			if err == nil {
				err = doer.do(times)
			}
			if err != nil {
				return "", err
			}
			var after nodeTime
			after, err = doer.now()
			own = append(own, after.own-before.own)
			before = after
		}
		if err != nil {
			return "", err
		}
		slices.Sort(own)
		total := float64(chunks * times)
		return fmt.Sprint(own[len(own)/2]/float64(times), (before.rest-began.rest)/total, (before.all-began.all)/total), nil
	}
}

// now reads the clocks.
func (d *nodeDoer) now() (t nodeTime, err error) {
	read := func(clock int32) float64 {
		var now unix.Timespec
		if e := unix.ClockGettime(clock, &now); e != nil {
			err = fmt.Errorf("reading a clock: %w", e)
		}
		return float64(now.Nano())
	}
	t.all = read(unix.CLOCK_MONOTONIC)
	t.rest = t.all - read(processorClock(os.Getppid()))
	t.own = read(unix.CLOCK_PROCESS_CPUTIME_ID)
	if d.other != 0 {
		t.own += read(processorClock(d.other))
	}
	if err != nil {
		return t, err
	}
	var children unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &children); err != nil {
		return t, fmt.Errorf("reading the children's time: %w", err)
	}
	t.own += float64(children.Utime.Nano() + children.Stime.Nano())
	return t, nil
}

// processorClock is the kernel's name of the processor's time of a process.
func processorClock(pid int) int32 { return int32(^pid<<3 | 2) }

// nodeCalls makes the cheapest system call.
func nodeCalls() (nodeDoer, error) {
	return nodeDoer{
		do: func(times int) error {
			for range times {
				_, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
			}
			return nil
		},
		end: func() error { return nil },
	}, nil
}

// What a client of a server such as Redis does by default: so many connections, so many bytes in a request and its answer.
const (
	nodeClients      = 50
	nodeRequestBytes = 64
)

// nodeRequests sends requests to a server in a process of its own, over the loopback: on each of many connections the
// next one when the answer to the last is there. Both ends wait for all of their connections at once, and read and write
// by read and write, as redis-benchmark and its server do.
func nodeRequests() (doer nodeDoer, err error) {
	server := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$", "--")
	server.Env = append(os.Environ(), helperVariable+"=node answer")
	server.Stderr = os.Stderr
	says, err := server.StdoutPipe()
	if err != nil {
		return doer, err
	}
	if err := server.Start(); err != nil {
		return doer, fmt.Errorf("starting the server: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, server.Process.Kill(), server.Wait())
		}
	}()
	line, err := bufio.NewReader(says).ReadString('\n')
	if err != nil {
		return doer, fmt.Errorf("asking the server for its port: %w", err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return doer, err
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return doer, err
	}
	connections := make([]int, nodeClients)
	for i := range connections {
		if connections[i], err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return doer, err
		}
		if err := unix.Connect(connections[i], &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return doer, fmt.Errorf("connecting: %w", err)
		}
		if err := nodeAwait(poll, connections[i]); err != nil {
			return doer, err
		}
	}
	return nodeDoer{
		do:    func(times int) error { return nodeAsk(poll, connections, times) },
		other: server.Process.Pid,
		end: func() error {
			for _, connection := range connections {
				_ = unix.Close(connection)
			}
			return errors.Join(unix.Close(poll), server.Wait())
		},
	}, nil
}

// nodeAwait adds a connection to those that are waited for.
func nodeAwait(poll, connection int) error {
	if err := unix.SetsockoptInt(connection, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("sending at once: %w", err)
	}
	if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, connection, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(connection)}); err != nil {
		return fmt.Errorf("waiting for a connection: %w", err)
	}
	return nil
}

// nodeAsk sends so many requests, and returns when all are answered.
func nodeAsk(poll int, connections []int, times int) error {
	var request [nodeRequestBytes]byte
	asked := 0
	ask := func(connection int) error {
		if asked == times {
			return nil
		}
		asked++
		_, err := unix.Write(connection, request[:])
		return err
	}
	for _, connection := range connections {
		if err := ask(connection); err != nil {
			return fmt.Errorf("asking: %w", err)
		}
	}
	answered := 0
	return nodeServe(poll, func(connection int) (bool, error) {
		if n, err := unix.Read(connection, request[:]); err != nil || n != len(request) {
			return false, fmt.Errorf("reading %d bytes of an answer: %w", n, err)
		}
		answered++
		return answered < times, ask(connection)
	})
}

// nodeServe waits for connections and shows those that can be read, until one is the last. The runtime does not know
// that it waits: it would wake a thread now and then, to have somebody who does not.
func nodeServe(poll int, show func(connection int) (more bool, err error)) error {
	var ready [nodeClients]unix.EpollEvent
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(poll), uintptr(unsafe.Pointer(&ready)), nodeClients, ^uintptr(0), 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return fmt.Errorf("waiting: %w", errno)
		}
		for i := range n {
			if more, err := show(int(ready[i].Fd)); err != nil || !more {
				return err
			}
		}
	}
}

// helperNodeAnswer is the server of nodeRequests: it says its port, and answers until all connections are closed.
func helperNodeAnswer([]string) (string, error) {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	if err := unix.Listen(listener, nodeClients); err != nil {
		return "", err
	}
	bound, err := unix.Getsockname(listener)
	if err != nil {
		return "", err
	}
	address, ok := bound.(*unix.SockaddrInet4)
	if !ok {
		return "", fmt.Errorf("listening at %v, which is no IPv4 address", bound)
	}
	fmt.Println(address.Port)
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return "", err
	}
	for range nodeClients {
		connection, _, err := unix.Accept(listener)
		if err != nil {
			return "", fmt.Errorf("accepting: %w", err)
		}
		if err := nodeAwait(poll, connection); err != nil {
			return "", err
		}
	}
	debug.SetGCPercent(-1)
	var request [nodeRequestBytes]byte
	open := nodeClients
	return "", nodeServe(poll, func(connection int) (bool, error) {
		n, err := unix.Read(connection, request[:])
		if err != nil {
			return false, fmt.Errorf("reading a request: %w", err)
		}
		if n == 0 {
			open--
			return open > 0, unix.Close(connection)
		}
		_, err = unix.Write(connection, request[:n])
		return true, err
	})
}

// buildScript does in a directory, so many times, what a build does, and computes nothing: it looks for files in vain, as
// along a path of includes, and has programs read some and write one, write another, and put that in the place of the last.
const buildScript = `cd "$0" || exit
step=0
while [ $step -lt $1 ]; do
	step=$((step + 1))
	for name in a b c d e f g h i j k l m n o p q r s t; do
		[ ! -e include/$name ] || exit
	done
	/bin/cat source* >listing && /bin/cp source0 made && /bin/mv made object || exit
done`

// How much the programs of a build read.
const (
	buildSources = 10
	buildBytes   = 8 << 10
)

// nodeBuild runs the script.
func nodeBuild() (doer nodeDoer, err error) {
	dir, err := os.MkdirTemp("", "watchglass-build-")
	if err != nil {
		return doer, err
	}
	for i := range buildSources {
		if err := os.WriteFile(filepath.Join(dir, "source"+strconv.Itoa(i)), make([]byte, buildBytes), 0o600); err != nil {
			return doer, err
		}
	}
	return nodeDoer{
		do: func(times int) error {
			if out, err := exec.Command("/bin/sh", "-c", buildScript, dir, strconv.Itoa(times)).CombinedOutput(); err != nil {
				return fmt.Errorf("running the script of a build: %w\n%s", err, out)
			}
			return nil
		},
		end: func() error { return os.RemoveAll(dir) },
	}, nil
}

// nodeGoPackages is what nodeGoBuild builds: of the standard library what needs no runtime, which would take minutes where
// instructions are counted. So more of it than of most builds is the starting of programs.
const nodeGoPackages = "unicode unicode/utf16 container/list container/ring math/bits"

// nodeGoBuild has the go command build packages, each time with an empty cache: one step after the other and without
// collecting garbage, which would come now here, now there, and only makes more work that no hook sees.
func nodeGoBuild() (doer nodeDoer, err error) {
	dir, err := os.MkdirTemp("", "watchglass-go-")
	if err != nil {
		return doer, err
	}
	return nodeDoer{
		do: func(times int) error {
			for range times {
				cache, err := os.MkdirTemp(dir, "cache-")
				if err != nil {
					return err
				}
				cmd := exec.Command("go", append([]string{"build", "-p=1"}, strings.Fields(nodeGoPackages)...)...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GOCACHE="+cache, "GOENV=off", "GOFLAGS=", "GOTOOLCHAIN=local", "GOPROXY=off", "CGO_ENABLED=0",
					"GOMAXPROCS=1", "GOGC=off")
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("building: %w\n%s", err, out)
				}
			}
			return nil
		},
		end: func() error { return os.RemoveAll(dir) },
	}, nil
}

// BenchmarkNode measures what a tracer that watches another sandbox costs processes outside of every one: the node's tax.
// Metrics, of one time of each work in each state: own-ns/op, rest-ns/op and all-ns/op as in nodeTime; their ratios to the
// smaller of the two without a tracer, x-own, x-rest and x-all. The states are "none" and "again", without a tracer, before
// any and after the first; "trampoline" and "tracepoint", with one of that hook plan; "spared", the first of these without
// what is read and written of files; and "empty", with a program that does nothing on the tracepoint that all system calls
// pass, in the tracer's place. Then, by program, how often it runs for one time of a work, and how long.
// On a machine whose clock counts instructions (test/vm -counted) a nanosecond is an instruction, and the figures are
// exact. On another one what is measured is mostly what else it does. A plan that the kernel refuses is left out, and so is
// building where there is no go command (test/vm -tree).
func BenchmarkNode(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	nodeTimes(b) // the first time, much is not where it stays
	n := nodeMeasured{times: map[string]map[string]nodeTime{"none": nodeTimes(b)}, runs: map[string]map[string][]nodeRun{}}
	n.watched(b, string(PlanTracepoint), func(cfg *Config) { cfg.Plan = PlanTracepoint })
	n.times["again"] = nodeTimes(b)
	if _, err := PlanTrampoline.choose(); err == nil {
		n.watched(b, string(PlanTrampoline), func(cfg *Config) { cfg.Plan = PlanTrampoline })
		n.watched(b, "spared", func(cfg *Config) { cfg.Plan, cfg.FileIO = PlanTrampoline, false })
	}
	attachEmpty(b, "", &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sys_exit"})
	n.times["empty"] = nodeTimes(b)
	for _, work := range nodeWorks() {
		n.report(b, work.name)
	}
}

// nodeMeasured is what was measured of each work in each state.
type nodeMeasured struct {
	times map[string]map[string]nodeTime
	runs  map[string]map[string][]nodeRun
}

// watched measures a state with a tracer.
func (n *nodeMeasured) watched(b *testing.B, state string, change func(*Config)) {
	b.Helper()
	tracer, end := openBenched(b, change)
	defer end()
	n.times[state] = nodeTimes(b)
	if state != "spared" {
		n.runs[state] = tracer.nodeRuns(b)
	}
}

// report says what was measured of a work.
func (n *nodeMeasured) report(b *testing.B, work string) {
	b.Helper()
	none, again := n.times["none"][work], n.times["again"][work]
	base := nodeTime{own: min(none.own, again.own), rest: min(none.rest, again.rest), all: min(none.all, again.all)}
	for _, state := range slices.Sorted(maps.Keys(n.times)) {
		b.Run(work+"/"+state, func(b *testing.B) {
			t := n.times[state][work]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(t.own, "own-ns/op")
			b.ReportMetric(t.rest, "rest-ns/op")
			b.ReportMetric(t.all, "all-ns/op")
			b.ReportMetric(t.own/base.own, "x-own")
			b.ReportMetric(t.rest/base.rest, "x-rest")
			b.ReportMetric(t.all/base.all, "x-all")
		})
	}
	for _, state := range slices.Sorted(maps.Keys(n.runs)) {
		for _, run := range n.runs[state][work] {
			b.Run(work+"/"+state+"/"+run.program, func(b *testing.B) {
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(run.often, "runs/op")
				b.ReportMetric(run.mean, "ns/run")
			})
		}
	}
}

// nodeTimes does every work, and says what one time of each took.
func nodeTimes(b *testing.B) map[string]nodeTime {
	b.Helper()
	time.Sleep(nodeSettle)
	times := map[string]nodeTime{}
	for _, work := range nodeWorks() {
		times[work.name] = work.run(b)
	}
	return times
}

// run does the work, in processes of its own.
func (w *nodeWork) run(b *testing.B) (t nodeTime) {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$", "--",
		strconv.Itoa(w.chunks), strconv.Itoa(w.times), strconv.Itoa(w.warmUp))
	// The runtime does not interrupt loops that nothing waits for.
	cmd.Env = append(os.Environ(), helperVariable+"=node "+w.name, "GODEBUG=asyncpreemptoff=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("helper node %s: %v\n%s", w.name, err, stderr.String())
	}
	if _, err := fmt.Sscan(string(out), &t.own, &t.rest, &t.all); err != nil {
		b.Fatalf("helper node %s says %q: %v", w.name, out, err)
	}
	return t
}

// nodeRun is how often a program runs for one time of a work, and how long each time, the look at the clock before and
// after included.
type nodeRun struct {
	program     string
	often, mean float64
}

// nodeRuns does every work once more, while the kernel counts the runs of programs.
func (t *benchedTracer) nodeRuns(b *testing.B) map[string][]nodeRun {
	b.Helper()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	// What runs less often belongs to the work's beginning and end.
	const rarely = 0.1
	programs := t.programs()
	runs := map[string][]nodeRun{}
	for _, work := range nodeWorks() {
		work.chunks = 1 // how often a program runs is soon clear
		before := map[string]*ebpf.ProgramStats{}
		for name, program := range programs {
			before[name] = programStats(b, program)
		}
		work.run(b)
		times := float64((work.chunks + work.warmUp) * work.times)
		for name, program := range programs {
			after := programStats(b, program)
			mean, ran := meanRun(before[name], after)
			if often := float64(after.RunCount-before[name].RunCount) / times; ran && often > rarely {
				runs[work.name] = append(runs[work.name], nodeRun{name, often, mean})
			}
		}
		slices.SortFunc(runs[work.name], func(a, b nodeRun) int { return strings.Compare(a.program, b.program) })
	}
	return runs
}

// programs is all that are loaded, by name.
func (t *benchedTracer) programs() map[string]*ebpf.Program {
	all := map[string]*ebpf.Program{}
	for i := range t.probes {
		for _, collection := range []*ebpf.Collection{t.probes[i].collection, t.probes[i].entries} {
			if collection != nil {
				maps.Copy(all, collection.Programs)
			}
		}
	}
	return all
}
