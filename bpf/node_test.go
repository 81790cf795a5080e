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

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// nodeWork is something that processes outside of every sandbox do. It is measured chunk by chunk, each so many times:
// the chunk in the middle is one that nothing disturbed.
type nodeWork struct {
	name          string
	chunks, times int
}

func nodeWorks() []nodeWork {
	return []nodeWork{
		// A chunk is shorter than the time between two interrupts of the timer.
		{name: "getppid", chunks: 50, times: 1000},
		{name: "requests", chunks: 15, times: 400},
		{name: "build", chunks: 15, times: 5},
	}
}

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

// helperNode measures a work: how many chunks, of how many times. It says what one time took.
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
		debug.SetGCPercent(-1) // it would come once in a while, and now in one state, now in the other
		doer, err := begin()
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, doer.end()) }()
		if err := doer.do(times); err != nil {
			return "", fmt.Errorf("warming up: %w", err)
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

// nodeServe waits for connections and shows those that can be read, until one is the last.
func nodeServe(poll int, show func(connection int) (more bool, err error)) error {
	var ready [nodeClients]unix.EpollEvent
	for {
		n, err := unix.EpollWait(poll, ready[:], -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting: %w", err)
		}
		for i := range max(n, 0) {
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

// What one step of a build reads: files that it finds, and names that it looks for in vain, as along a path of includes.
const (
	buildSources = 10
	buildMissing = 20
	buildBytes   = 8 << 10
	buildObjects = 16
)

// nodeBuild does what a build does, step by step, and computes nothing: it looks for files, reads some, writes one, has a
// program of its own read and write another, and puts that in the place of the last one.
func nodeBuild() (doer nodeDoer, err error) {
	dir, err := os.MkdirTemp("", "watchglass-build-")
	if err != nil {
		return doer, err
	}
	file := func(kind string, i int) string { return filepath.Join(dir, kind+strconv.Itoa(i)) }
	content := make([]byte, buildBytes)
	for i := range buildSources {
		if err := os.WriteFile(file("source", i), content, 0o600); err != nil {
			return doer, err
		}
	}
	steps := 0
	step := func() error {
		steps++
		for i := range buildMissing {
			if _, err := os.Stat(file("missing", i)); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("looking for a file in vain: %w", err)
			}
		}
		for i := range buildSources {
			if _, err := os.Stat(file("source", i)); err != nil {
				return err
			}
			if _, err := os.ReadFile(file("source", i)); err != nil {
				return err
			}
		}
		if err := os.WriteFile(file("listing", steps%buildObjects), content, 0o600); err != nil {
			return err
		}
		made := file("made", 0)
		if out, err := exec.Command("cp", file("source", steps%buildSources), made).CombinedOutput(); err != nil {
			return fmt.Errorf("running cp: %w\n%s", err, out)
		}
		return os.Rename(made, file("object", steps%buildObjects))
	}
	return nodeDoer{
		do: func(times int) error {
			for range times {
				if err := step(); err != nil {
					return err
				}
			}
			return nil
		},
		end: func() error { return os.RemoveAll(dir) },
	}, nil
}

// BenchmarkNode measures what a tracer that watches another sandbox costs processes outside of every one: the node's tax.
// Metrics, of one time of each work in each state: own-ns/op, rest-ns/op and all-ns/op as in nodeTime; their ratios to the
// smaller of the two without a tracer, x-own, x-rest and x-all. The states are "none" and "again", without a tracer, before and after;
// "tracer"; "spared", under the trampoline plan, without what is read and written of files; and "empty", under the other
// one, a program that does nothing on the tracepoint that all system calls pass, in the tracer's place. Last, by program, how often it runs for one time of a work
// while a tracer is there, and how long.
// On a machine whose clock counts instructions (test/vm -counted) a nanosecond is an instruction, and the figures are
// exact. On another one what is measured is mostly what else it does.
func BenchmarkNode(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	states := []string{"none", "tracer", "again"}
	nodeTimes(b) // the first time, much is not where it stays
	times := map[string]map[string]nodeTime{"none": nodeTimes(b)}
	tracer, end := openBenched(b, func(*Config) {})
	times["tracer"] = nodeTimes(b)
	runs := tracer.nodeRuns(b)
	plan := tracer.Plan()
	end()
	times["again"] = nodeTimes(b)
	if plan == PlanTrampoline {
		states = append(states, "spared")
		_, end := openBenched(b, func(cfg *Config) { cfg.FileIO = false })
		times["spared"] = nodeTimes(b)
		end()
	} else {
		states = append(states, "empty")
		attachEmpty(b, "", &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sys_exit"})
		times["empty"] = nodeTimes(b)
	}
	for _, work := range nodeWorks() {
		base := nodeTime{
			own:  min(times["none"][work.name].own, times["again"][work.name].own),
			rest: min(times["none"][work.name].rest, times["again"][work.name].rest),
			all:  min(times["none"][work.name].all, times["again"][work.name].all),
		}
		for _, state := range states {
			b.Run(work.name+"/"+state, func(b *testing.B) {
				t := times[state][work.name]
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(t.own, "own-ns/op")
				b.ReportMetric(t.rest, "rest-ns/op")
				b.ReportMetric(t.all, "all-ns/op")
				b.ReportMetric(t.own/base.own, "x-own")
				b.ReportMetric(t.rest/base.rest, "x-rest")
				b.ReportMetric(t.all/base.all, "x-all")
			})
		}
		for _, run := range runs[work.name] {
			b.Run(work.name+"/program/"+run.program, func(b *testing.B) {
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
	times := map[string]nodeTime{}
	for _, work := range nodeWorks() {
		times[work.name] = work.run(b)
	}
	return times
}

// run does the work, in processes of its own.
func (w *nodeWork) run(b *testing.B) (t nodeTime) {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$", "--", strconv.Itoa(w.chunks), strconv.Itoa(w.times))
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
	const rarely = 0.02
	programs := t.programs()
	runs := map[string][]nodeRun{}
	for _, work := range nodeWorks() {
		before := map[string]*ebpf.ProgramStats{}
		for name, program := range programs {
			before[name] = programStats(b, program)
		}
		work.run(b)
		times := float64((work.chunks + 1) * work.times)
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
