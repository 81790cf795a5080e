// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/internal/testenv"
)

// helperVariable names the action that a re-executed test binary takes instead of testing.
const helperVariable = "WATCHGLASS_TEST_HELPER"

// helperAction is something a kernel test has a process of its own do. What it returns is printed.
type helperAction func(args []string) (string, error)

// TestHelperProcess is no test: it is the process that kernel tests start inside and outside of sandboxes.
func TestHelperProcess(t *testing.T) {
	name := os.Getenv(helperVariable)
	if name == "" {
		return
	}
	action := helperActions()[name]
	if action == nil {
		t.Fatalf("no helper action %q", name)
	}
	args := os.Args
	for i, arg := range args {
		if arg == "--" {
			args = args[i+1:]
			break
		}
	}
	said, err := action(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "helper", name+":", err)
		os.Exit(1)
	}
	fmt.Println(said)
	os.Exit(0)
}

// watch is a running tracer, the sandbox it watches, and the records it delivered so far.
type watch struct {
	t      *testing.T
	tracer *Tracer
	cgroup string
	id     uint64

	// stop ends Run, after which no record comes.
	stop func()
	// late says whether a record is of a test before.
	late func(*Record) bool

	mu      sync.Mutex
	records []*Record
}

// startWatch makes a scratch cgroup and watches it until the test ends, by the tracer that tests share: for tests that look at
// what is told of their own sandboxes, and leave the tracer as it was. Others have one of their own, by startWatchOwn.
func startWatch(t *testing.T) *watch {
	t.Helper()
	return startWatchShared(t, shared.usual)
}

// startWatchShared is startWatch with another of the tracers that tests share.
func startWatchShared(t *testing.T, tracer *sharedTracer) *watch {
	t.Helper()
	w := &watch{t: t, cgroup: scratchCgroup(t), late: tracer.late}
	w.tracer = tracer.take(t)
	w.begin(tracer.give)
	w.wantAttached()
	return w
}

// startWatchOwn is startWatch with a tracer that no other test uses: for tests that change it, that fill its tables, or that
// look at what it counts for all sandboxes.
func startWatchOwn(t *testing.T) *watch {
	t.Helper()
	return startWatchWith(t, testConfig())
}

// planVariable names the hook plan that the tests are to follow; where it is not set that is PlanAuto.
const planVariable = "WATCHGLASS_PLAN"

// testConfig is DefaultConfig with the plan that the tests are to follow.
func testConfig() Config {
	cfg := DefaultConfig()
	if plan := os.Getenv(planVariable); plan != "" {
		cfg.Plan = Plan(plan)
	}
	return cfg
}

// startWatchWith is startWatchOwn with a configuration of the test's own.
func startWatchWith(t *testing.T, cfg Config) *watch {
	t.Helper()
	return startWatchOpened(t, func() (*Tracer, error) { return Open(cfg) })
}

// startWatchOpened is startWatchOwn with a tracer that the test opens its own way.
func startWatchOpened(t *testing.T, open func() (*Tracer, error)) *watch {
	t.Helper()
	w := startWatchDegraded(t, open)
	w.wantAttached()
	return w
}

// openOwn opens a tracer that the test shares with no other. It is the test's to close.
func openOwn(t *testing.T, cfg Config) *Tracer {
	t.Helper()
	testenv.OwnTracer(t)
	tracer, err := Open(cfg)
	if err != nil {
		t.Fatalf("opening the tracer: %v", err)
	}
	return tracer
}

// startWatchDegraded is startWatchOpened where not all probes need be attached.
func startWatchDegraded(t *testing.T, open func() (*Tracer, error)) *watch {
	t.Helper()
	testenv.OwnTracer(t)
	w := &watch{t: t, cgroup: scratchCgroup(t), late: func(*Record) bool { return false }}
	tracer, err := open()
	if err != nil {
		t.Fatalf("opening the tracer: %v", err)
	}
	w.tracer = tracer
	w.begin(func(t *testing.T) {
		if err := tracer.Close(); err != nil {
			t.Errorf("closing the tracer: %v", err)
		}
	})
	return w
}

// begin has the tracer run and watch the cgroup until the test ends, and calls end then.
func (w *watch) begin(end func(*testing.T)) {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.tracer.Run(ctx, func(r *Record) {
			if w.late(r) {
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.records = append(w.records, kept(r))
		})
	}()
	w.stop = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Errorf("running the tracer: %v", err)
		}
	})
	w.t.Cleanup(func() {
		w.stop()
		end(w.t)
	})
	w.id = cgroupID(w.t, w.cgroup)
	if err := w.tracer.Track(w.id); err != nil {
		w.t.Fatalf("tracking the scratch cgroup: %v", err)
	}
}

// wantAttached fails the test where a probe of the tracer's is not attached.
func (w *watch) wantAttached() {
	w.t.Helper()
	for _, p := range w.tracer.Probes() {
		if !p.Attached {
			w.t.Fatalf("probe %s is not attached: %s", p.Name, p.Err)
		}
	}
}

// kept is a record that is good for longer than its receiver runs.
func kept(r *Record) *Record {
	kept := *r
	return &kept
}

// seen is the records delivered so far that pick wants.
func (w *watch) seen(pick func(*Record) bool) []*Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	var picked []*Record
	for _, r := range w.records {
		if pick(r) {
			picked = append(picked, r)
		}
	}
	return picked
}

// await waits until pick has at least n records, then a moment for ones too many, and returns them.
func (w *watch) await(n int, pick func(*Record) bool) []*Record {
	w.t.Helper()
	return w.awaitUntil(pick, func(picked []*Record) bool { return len(picked) >= n })
}

// awaitUntil waits until the records that pick wants are enough, then a moment for ones too many, and returns them.
func (w *watch) awaitUntil(pick func(*Record) bool, enough func([]*Record) bool) []*Record {
	w.t.Helper()
	// Long: an emulated machine on a busy host takes its time.
	deadline := time.Now().Add(time.Minute)
	for !enough(w.seen(pick)) {
		if time.Now().After(deadline) {
			w.t.Log("what is waited for does not come") // in a test that passes it is not to come: wait for something that is
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	return w.seen(pick)
}

// helperRun is one helper process: where and as what it runs.
type helperRun struct {
	action string
	args   []string
	// outside runs it outside of the sandbox.
	outside bool
	flags   uintptr
}

// helperResult is what a helper was and said.
type helperResult struct {
	pid  uint32
	said string
}

// run runs a helper process to its end.
func (w *watch) run(h helperRun) helperResult {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestHelperProcess$", "--"}, h.args...)...)
	cmd.Env = append(os.Environ(), helperVariable+"="+h.action, "GOCOVERDIR="+w.t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: h.flags}
	if !h.outside {
		dir, err := os.Open(w.cgroup)
		if err != nil {
			w.t.Fatal(err)
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("helper %s: %v\n%s", h.action, err, stderr.String())
	}
	return helperResult{pid: uint32(cmd.Process.Pid), said: strings.TrimRight(string(out), "\n")}
}

// scratchCgroup makes a cgroup2 cgroup that goes when the test ends.
func scratchCgroup(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(cgroup2Mount(t), "watchglass-test-")
	if err != nil {
		t.Fatalf("making a scratch cgroup: %v", err)
	}
	t.Cleanup(func() {
		deadline := time.Now().Add(5 * time.Second)
		for {
			err := os.Remove(dir)
			if err == nil || time.Now().After(deadline) {
				if err != nil {
					t.Errorf("removing the scratch cgroup: %v", err)
				}
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return dir
}

// cgroup2Mount is where the cgroup2 hierarchy is mounted.
func cgroup2Mount(t *testing.T) string {
	t.Helper()
	dir, err := findCgroup2()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// cgroupID is the kernel's id of a cgroup: its directory's inode.
func cgroupID(t *testing.T, dir string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Clean(dir), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// errnoOf is the error number inside an error of the syscall packages, 0 when there is none.
func errnoOf(err error) syscall.Errno {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return 0
}

// helperActions is what helper processes can do, by name.
func helperActions() map[string]helperAction {
	return map[string]helperAction{
		"open":            helperOpen,
		"change":          helperChange,
		"race change":     helperRaceChange,
		"map":             helperMap,
		"race":            helperRace,
		"replace":         helperReplace,
		"ring":            helperRing,
		"ring socket":     helperRingSocket,
		"race ring":       helperRaceRing,
		"socket":          helperSocket,
		"open deep":       helperOpenDeep,
		"open slowly":     helperOpenSlowly,
		"rename and open": helperRenameAndOpen,
		"say":             helperSay,
		"say pieces":      helperSayPieces,
		"reach":           helperReach,
		"give up":         helperGiveUp,
		"denied":          helperDenied,
		"namespace":       helperNamespace,
		"many":            helperMany,
		"calls":           helperCalls,
		"calls meanwhile": helperCallsMeanwhile,
		"calls and wait":  helperCallsAndWait,
		"thread calls":    helperCallsOfThreads,
		"fail slowly":     helperFailSlowly,
		"fail and open":   helperFailAndOpen,
		"calls 32":        helperCalls32,

		"fork like mad":      helperForkLikeMad,
		"exec by thread":     helperExecByThread,
		"run at once":        helperRunAtOnce,
		"become 32":          helperBecome32,
		"leader exits first": helperLeaderExitsFirst,
		"open tracer":        helperOpenTracer,
		"resolve":            helperResolve,
		"resolve by TCP":     helperResolveByTCP,
		"speak":              helperSpeak,
		"confine":            helperConfine,
		"use":                helperUse,
		"eat memory":         helperEatMemory,
		"born outside":       helperBornOutside,
		"notable":            helperNotable,
		"notable flood":      helperNotableFlood,
		"notable 32":         helperNotable32,
		"thread moves":       helperThreadMoves,
		"make files":         helperMakeFiles,
		"make calls":         helperMakeCalls,
		"wait in calls":      helperWaitInCalls,
		"hold returns":       helperHoldReturns,
		"returns alone":      helperReturnsAlone,

		"memory":           helperMemory,
		"memory 32":        helperMemory32,
		"talk":             helperTalk,
		"datagrams":        helperDatagrams,
		"many peers":       helperManyPeers,
		"quic":             helperQUIC,
		"transfer":         helperTransfer,
		"transfer closing": helperTransferClosing,
		"transfer exec":    helperTransferExec,
		"transfer on":      helperTransferOn,
		"transfer slowly":  helperTransferSlowly,
		"transfer ring":    helperTransferRing,
		"transfer many":    helperTransferMany,
		"moving often":     helperMovingOften,
		"transfer passed":  helperTransferPassed,
		"queued":           helperQueued,
		"splice ring":      helperSpliceRing,
		"packets ring":     helperPacketsRing,
		"write 32":         func(args []string) (string, error) { return "", run32(writeCode32(args[0], 3)) },
		"submit 32":        func(args []string) (string, error) { return "", run32(submitCode32(args[0])) },
		"read files":       helperReadFiles,

		"bench getppid":     helperBench("getppid"),
		"bench open":        helperBench("open"),
		"bench open-shared": helperBench("open-shared"),
		"bench datagram":    helperBench("datagram"),
		"bench stream":      helperBench("stream"),
		"bench read":        helperBench("read"),
		"bench exec":        helperBench("exec"),
		"bench connect":     helperBench("connect"),
		"bench sendto":      helperBench("sendto"),

		"node getppid":  helperNode(nodeCalls),
		"node requests": helperNode(nodeRequests),
		"node build":    helperNode(nodeBuild),
		"node go-build": helperNode(nodeGoBuild),
		"node answer":   helperNodeAnswer,
	}
}

// requireKernel ends the test where it cannot run, and says why.
func requireKernel(t *testing.T) {
	t.Helper()
	testenv.RequireEBPF(t)
}
