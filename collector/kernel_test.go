// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// countingSource counts the records of one sandbox on their way.
type countingSource struct {
	*bpf.Tracer
	sandbox uint64
	mu      sync.Mutex
	n       uint64
}

func (s *countingSource) Run(ctx context.Context, handle func(*bpf.Record)) error {
	return s.Tracer.Run(ctx, func(r *bpf.Record) {
		if r.Sandbox == s.sandbox && !r.Counted {
			s.mu.Lock()
			s.n++
			s.mu.Unlock()
		}
		handle(r)
	})
}

// account is what the kernel says of the sandbox, and what was delivered.
func (s *countingSource) account(t *testing.T) (seen, dropped, delivered uint64) {
	t.Helper()
	counts, err := s.Counts()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if c.Sandbox == s.sandbox {
			seen += c.Seen
			dropped += c.Dropped + c.Throttled + c.Aggregated
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return seen, dropped, s.n
}

// kernelSession is a pipeline over the real tracer, watching one leaf.
type kernelSession struct {
	leaf     *sandbox.Leaf
	source   *countingSource
	pipeline *Pipeline
	exporter *fakeExporter
	stop     func() error
}

func startKernelSession(t *testing.T, ringBytes int) *kernelSession {
	t.Helper()
	return startKernelSessionWith(t, ringBytes, func(*Settings) {})
}

// startKernelSessionWith lets the caller change the pipeline's settings.
func startKernelSessionWith(t *testing.T, ringBytes int, change func(*Settings)) *kernelSession {
	t.Helper()
	cfg := bpf.DefaultConfig()
	cfg.RingBytes = ringBytes
	return startKernelSessionOn(t, cfg, change)
}

// startKernelSessionOn is startKernelSessionWith over a tracer of the caller's.
func startKernelSessionOn(t *testing.T, cfg bpf.Config, change func(*Settings)) *kernelSession {
	t.Helper()
	testenv.RequireEBPF(t)
	mount, err := sandbox.FindMount()
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	leaf, err := sandbox.NewLeaf(mount, fmt.Sprintf("test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = leaf.Kill(); _ = leaf.Remove(context.Background()) })
	cfg.Environment = agent.Environment()
	tracer, err := bpf.Open(cfg)
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	t.Cleanup(func() { _ = tracer.Close() })
	log := slog.New(slog.DiscardHandler)
	registry, err := sandbox.New(sandbox.Config{Mount: mount, BootID: "boot-1", Max: 4, Kernel: tracer, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Add(event.Sandbox{Name: "test", Runtime: sandbox.RuntimeRun, Cgroup: leaf.Path, CgroupID: leaf.ID}); err != nil {
		t.Fatal(err)
	}
	s := &kernelSession{leaf: leaf, source: &countingSource{Tracer: tracer, sandbox: leaf.ID}, exporter: &fakeExporter{}}
	settings := Settings{
		Source: s.source, Sandboxes: registry, Exporters: []ExporterSettings{{Exporter: s.exporter, WhenFull: Block}},
	}
	change(&settings)
	s.pipeline = newTestPipeline(t, settings)
	s.stop = start(t, s.pipeline)
	return s
}

// run runs a shell script in the leaf, born there.
func (s *kernelSession) run(t *testing.T, script string, env ...string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: s.leaf.FD()}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// settle waits until what the kernel saw and did not drop was delivered, and holds it to that.
func (s *kernelSession) settle(t *testing.T) (seen, dropped uint64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		seen, dropped, delivered := s.source.account(t)
		switch {
		case seen-dropped == delivered && seen > 0:
			return seen, dropped
		case time.Now().After(deadline):
			t.Fatalf("%d seen, %d dropped, %d delivered", seen, dropped, delivered)
		}
	}
}

// balance waits until the collector's own account says the same, over all sandboxes.
func (s *kernelSession) balance(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stats := s.pipeline.Stats()
		var sent uint64
		for _, p := range stats.Probes {
			sent += p.Seen - p.Dropped
		}
		if sent == stats.Records {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d sent, %d read: %+v", sent, stats.Records, stats)
		}
	}
}

// TestKernelBurst runs 2,000 short processes as fast as a shell can, and accounts for every record.
func TestKernelBurst(t *testing.T) {
	const n = 2000
	s := startKernelSession(t, 16<<20)
	s.run(t, "i=0; while [ $i -lt "+strconv.Itoa(n)+" ]; do /bin/true; i=$((i+1)); done")
	_, dropped := s.settle(t)
	s.balance(t)
	if err := s.leaf.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if dropped != 0 {
		t.Fatalf("%d dropped with a ring of 16 MiB", dropped)
	}
	kinds := s.exporter.kinds()
	if kinds[event.KindProcessExec] != n+1 || kinds[event.KindProcessExit] != n+1 || kinds[event.KindLoss] != 0 {
		t.Errorf("%v", kinds)
	}
	names := map[string]int{}
	uids := map[event.ProcessID]bool{}
	for _, e := range s.exporter.got() {
		if e.Kind() == event.KindProcessExit {
			names[e.Process.Name]++
			uids[e.Process.UID] = true
			if e.Process.Name == "true" && (e.Process.Parent == nil || e.Process.RootUID != e.Process.Parent.UID) {
				t.Fatalf("not the shell's child: %+v", e.Process)
			}
		}
	}
	if names["true"] != n || len(uids) != n+1 {
		t.Errorf("%v with %d identities", names, len(uids))
	}
	events := s.exporter.got()
	stop, ok := events[len(events)-1].Payload.(*event.SandboxStop)
	if !ok || stop.Processes != n+1 || stop.Outlived != 0 {
		t.Errorf("the last event is %+v", events[len(events)-1].Payload)
	}
}

// TestKernelLoss makes the smallest ring overflow, and holds what is told to what the kernel counted.
func TestKernelLoss(t *testing.T) {
	s := startKernelSession(t, 4096)
	s.exporter.hold = make(chan struct{}) // and nobody reads
	s.pipeline.mu.Lock()
	s.run(t, "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done")
	s.pipeline.mu.Unlock()
	close(s.exporter.hold)
	_, dropped := s.settle(t)
	if dropped == 0 {
		t.Fatal("nothing was dropped")
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	var told uint64
	for _, e := range s.exporter.got() {
		if l, ok := e.Payload.(*event.Loss); ok && e.Sandbox != nil && e.Sandbox.CgroupID == s.leaf.ID {
			told += l.Count
		}
	}
	if told != dropped || lost(s.pipeline.Stats(), event.LossRing) < dropped {
		t.Errorf("%d dropped, %d told", dropped, told)
	}
}

// TestKernelJoin has a process with a call's id in its environment, and what it starts.
func TestKernelJoin(t *testing.T) {
	s := startKernelSession(t, 1<<20)
	s.run(t, "env -i /bin/cat /etc/hostname; CODEX_TOOL_CALL_ID=call_2 /bin/ls /", "CODEX_TOOL_CALL_ID=call_1", "CODEX_THREAD_ID=t1")
	s.settle(t)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	// Strong and no more: no agent started the process, as far as is seen.
	want := map[string]string{"sh": "env strong", "dash": "env strong", "env": "env strong", "cat": "inherited strong", "ls": "inherited inferred"}
	seen := 0
	for _, e := range s.exporter.got() {
		if e.Kind() != event.KindProcessExec && e.Kind() != event.KindFileOpen {
			continue
		}
		join := want[e.Process.Name]
		if join == "" {
			continue
		}
		seen++
		a := e.Process.Agent
		if a == nil || a.Name != "codex" || a.CallID != "call_1" || a.ConversationID != "t1" || a.Method+" "+a.Confidence != join {
			t.Errorf("%s of %s: %+v, want %s", e.Kind(), e.Process.Name, a, join)
		}
	}
	if seen < 8 {
		t.Errorf("only %d events", seen)
	}
}

// TestKernelSessions has a program that the kernel takes for Codex start a call's process, which leaves another
// behind, and claims another exit code than the kernel's.
func TestKernelSessions(t *testing.T) {
	s := startKernelSession(t, 1<<20)
	codex := filepath.Join(t.TempDir(), "codex")
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(codex, shell, 0o755); err != nil {
		t.Fatal(err)
	}
	const thread = "thread-0000000000000001"
	s.run(t, codex+` -c 'CODEX_TOOL_CALL_ID=call_1 CODEX_THREAD_ID=`+thread+
		` /bin/sh -c "cat /etc/hostname; (setsid sleep 0.3 &); exit 3"; sleep 0.5; /bin/true; exit 0'`)
	s.settle(t)
	var host *event.Process
	for _, e := range s.exporter.got() {
		if e.Kind() == event.KindProcessExec && agent.IsAgent(e.Process.Agent) {
			host = e.Process
		}
	}
	if host == nil {
		t.Fatal("no agent was recognised")
	}
	now := time.Now()
	s.pipeline.Claim(&agent.Statement{
		Origin: agent.Origin{Sandbox: s.leaf.ID, PID: host.PID}, Time: now, // its start time is not known
		Claim: &event.Prompt{Claim: event.Claim{Agent: "codex", Session: thread}},
	})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	views := s.pipeline.Session(thread)
	if len(views) != 1 || len(views[0].Turns) == 0 || views[0].EndReason != "exit" {
		t.Fatalf("%+v", views)
	}
	call := views[0].Turns[0].Calls[0]
	if call.ID != "call_1" || call.Confidence != agent.ConfidenceExact || call.ExitCode == nil || *call.ExitCode != 3 {
		t.Errorf("%+v", call)
	}
	var commands []string
	for _, p := range call.Processes {
		commands = append(commands, p.Command)
		if p.Ended.IsZero() {
			t.Errorf("%s has not ended", p.Command)
		}
	}
	if !slices.Contains(commands, "cat /etc/hostname") || !slices.Contains(commands, "sleep 0.3") || len(commands) != 3 {
		t.Errorf("processes: %q", commands)
	}
	joined := 0
	for _, e := range s.exporter.got() {
		if c, ok := e.Payload.(*event.ToolCall); ok && c.Phase == event.PhaseJoined && c.Exited && c.ExitCode == 3 && c.Totals.Processes >= 3 {
			joined++
		}
	}
	if joined == 0 {
		t.Error("the call was not told of")
	}
}

// TestClaimsFromEverywhere takes claims and questions from many goroutines while records come.
func TestClaimsFromEverywhere(t *testing.T) {
	p := newTestPipeline(t, Settings{Exporters: []ExporterSettings{{Exporter: &fakeExporter{}}}})
	now := time.Now()
	p.handle(made())
	p.handle(of(now, 101, 1, &event.ProcessExec{Executable: "/opt/bin/codex", Args: []string{"codex"}}))
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 200 {
				claim := event.Claim{Agent: "codex", Session: fmt.Sprintf("session-%016d", j%3)}
				p.Claim(&agent.Statement{
					Origin: agent.Origin{Sandbox: 10, PID: 101, Start: 101 * 1e6}, Time: now,
					Claim: &event.ToolCall{Claim: claim, Phase: event.PhaseEnd, ID: strconv.Itoa(i*1000 + j), Name: "shell", Command: "ls"},
				})
				p.handle(of(now, uint32(1000*(i+1)+j), 101, &event.ProcessExec{Executable: "/bin/sh", Args: []string{"sh", "-c", "ls"}}))
				p.Session("session-0000000000000001")
				p.Sessions()
				p.Stats()
			}
		})
	}
	group.Wait()
	p.tick(now.Add(time.Minute))
	if len(p.Sessions()) == 0 {
		t.Error("no sessions")
	}
}
