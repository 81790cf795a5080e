// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// step is one thing of a recorded run: of the kernel, or a request of telemetry.
type step struct {
	at time.Time
	do func(p *Pipeline)
}

// lines decodes a compressed file of JSON objects.
func lines[T any](t testing.TB, path string) []T {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var list []T
	decoder := json.NewDecoder(bufio.NewReader(z))
	for decoder.More() {
		var v T
		if err := decoder.Decode(&v); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

type kernelLine struct {
	Agent       uint32
	Truth       map[string]string
	Ev          string
	T           int64
	PID, PPID   uint32
	Args        []string
	Exe         string
	Env         map[string]string
	Code, Sig   int
	Local, Peer string
}

// run is a recorded run.
type run struct {
	truth map[uint32]string
	steps []step
}

// loadRun reads the kernel's part and the telemetry of a run. change may change a statement, or drop it.
func loadRun(t testing.TB, name string, change func(*agent.Statement) bool) *run {
	t.Helper()
	r := &run{truth: map[uint32]string{}}
	r.loadKernel(t, name)
	pid := lines[kernelLine](t, filepath.Join("testdata", "runs", name+"-kernel.jsonl.gz"))[0].Agent
	tr := agent.NewTranslator(agent.TranslatorConfig{Content: agent.Content{Prompts: true, Arguments: true}})
	type request struct {
		Signal   string          `json:"signal"`
		Received int64           `json:"received"`
		Body     json.RawMessage `json:"body"`
	}
	origin := agent.Origin{Sandbox: 10, PID: pid, Start: uint64(pid) * 1e6}
	for _, q := range lines[request](t, filepath.Join("agent", "testdata", "telemetry", name+"-run.jsonl.gz")) {
		at := time.Unix(0, q.Received).UTC()
		r.steps = append(r.steps, step{at, func(p *Pipeline) {
			var said []*agent.Statement
			var err error
			switch q.Signal {
			case "logs":
				request := plogotlp.NewExportRequest()
				err = request.UnmarshalJSON(q.Body)
				said, _ = tr.Logs(request.Logs(), origin, at)
			case "traces":
				request := ptraceotlp.NewExportRequest()
				err = request.UnmarshalJSON(q.Body)
				said, _ = tr.Traces(request.Traces(), origin, at)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range said {
				if change(s) {
					p.claim(s, at)
				}
			}
		}})
	}
	slices.SortStableFunc(r.steps, func(a, b step) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	return r
}

func (r *run) loadKernel(t testing.TB, name string) {
	t.Helper()
	recorded := lines[kernelLine](t, filepath.Join("testdata", "runs", name+"-kernel.jsonl.gz"))
	// A fork names the thread that forked, an exec the process; but a parent that has ended by then is 1.
	parents := map[uint32]uint32{}
	for _, l := range recorded {
		if was := parents[l.PID]; l.PPID != 0 && (was == 0 || l.Ev == "exec" && l.PPID != 1) {
			parents[l.PID] = l.PPID
		}
	}
	for _, l := range recorded {
		if l.Truth != nil {
			for pid, command := range l.Truth {
				n, err := strconv.ParseUint(pid, 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				r.truth[uint32(n)] = command
			}
			continue
		}
		payload := l.payload()
		if payload == nil {
			continue
		}
		parent := parents[l.PID]
		at := time.Unix(0, l.T).UTC()
		task := bpf.Task{
			PID: l.PID, TID: l.PID, VPID: l.PID, ParentPID: parent, Start: uint64(l.PID) * 1e6, ParentStart: uint64(parent) * 1e6, StartTime: at,
		}
		r.steps = append(r.steps, step{at, func(p *Pipeline) {
			p.handle(&bpf.Record{Time: at, Sandbox: 10, Cgroup: 10, Task: task, Payload: payload})
		}})
	}
}

func (l *kernelLine) payload() any {
	switch l.Ev {
	case "exec":
		exec := &event.ProcessExec{
			Executable: cmp.Or(l.Exe, "/usr/bin/"+l.Args[0]), Args: l.Args, ArgsCount: len(l.Args), Origin: event.OriginFile,
		}
		for _, name := range agent.Environment() {
			if value := l.Env[name]; value != "" {
				exec.Env = append(exec.Env, event.EnvVar{Name: name, Value: value})
			}
		}
		return exec
	case "exit":
		return &event.ProcessExit{Code: l.Code, Signal: l.Sig, Exited: time.Unix(0, l.T).UTC()}
	case "connect":
		return &event.NetworkConnect{
			Transport: event.TransportTCP, Local: netip.MustParseAddrPort(l.Local), Peer: netip.MustParseAddrPort(l.Peer),
		}
	case "fork":
		return &bpf.Fork{}
	}
	return nil
}

// replay runs it all in the order in which it happened, with a tick each second, and is the events.
func (r *run) replay(t testing.TB) (*Pipeline, []*event.Event) {
	t.Helper()
	p := newTestPipeline(t, Settings{Exporters: []ExporterSettings{{Exporter: &fakeExporter{}}}})
	p.handle(&bpf.Record{Time: r.steps[0].at, Payload: &bpf.CgroupMade{ID: 10, Path: "/s1"}})
	clock := r.steps[0].at
	for _, s := range r.steps {
		for ; s.at.Sub(clock) >= time.Second; clock = clock.Add(time.Second) {
			p.tick(clock)
		}
		s.do(p)
	}
	for range 40 {
		clock = clock.Add(time.Second)
		p.tick(clock)
	}
	p.finish(clock)
	batch, _ := p.outputs[0].queue.pull(nil, 1<<20)
	return p, batch
}

// TestRecordedRuns holds the joins of real agents' runs to what the script had them do: every command's process is
// joined to the right call, and nothing else is.
func TestRecordedRuns(t *testing.T) {
	everything := func(*agent.Statement) bool { return true }
	redacted := func(s *agent.Statement) bool {
		switch c := s.Claim.(type) {
		case *event.ToolCall:
			c.Command, c.Arguments = "", ""
		case *event.Approval:
			c.Command = ""
		}
		return true
	}
	logsOnly := func(s *agent.Statement) bool { return s.Claim.Said().Channel == event.ChannelLog }
	for _, test := range []struct {
		name, what, method string
		change             func(*agent.Statement) bool
	}{
		{"codex", "everything", agent.MethodEnv, everything},
		{"codex", "redacted", agent.MethodEnv, redacted},
		{"claude", "everything", agent.MethodCommand, everything},
		{"claude", "logs only", agent.MethodCommand, logsOnly},
		{"claude", "redacted", agent.MethodCandidate, redacted},
		{"gemini", "everything", agent.MethodCommand, everything},
		{"gemini", "logs only", agent.MethodCommand, logsOnly},
		{"opencode", "everything", agent.MethodCommand, everything},
	} {
		t.Run(test.name+" "+test.what, func(t *testing.T) {
			r := loadRun(t, test.name, test.change)
			p, events := r.replay(t)
			uids := map[event.ProcessID]uint32{}
			for pid := range r.truth {
				uids[p.tree.Identity(pid, uint64(pid)*1e6)] = pid
			}
			calls := map[string]string{}
			for _, e := range events {
				if c, ok := e.Payload.(*event.ToolCall); ok && c.Phase == event.PhaseEnd && c.ID != "" {
					calls[c.ID] = c.Command
				}
			}
			joined, served := map[uint32]string{}, 0
			for _, e := range events {
				switch c := e.Payload.(type) {
				case *event.ToolCall:
					if c.Phase != event.PhaseJoined {
						continue
					}
					for _, root := range c.Roots {
						pid, ok := uids[root]
						if !ok && c.MCPServer == "mcpecho" && e.Process.Name == c.MCPServer {
							served++
							if c.Method != agent.MethodInterval || c.Confidence != agent.ConfidenceInferred {
								t.Errorf("call %s of a tool server by %s/%s", c.ID, c.Method, c.Confidence)
							}
							continue
						}
						if !ok {
							t.Errorf("call %s (%s) is joined to a process that no tool started: %s", c.ID, c.Command, e.Process.Name)
							continue
						}
						joined[pid] = c.ID
						if c.Command != "" && c.Command != r.truth[pid] {
							t.Errorf("process %d is joined to %q, and was started for %q", pid, c.Command, r.truth[pid])
						}
						// Where the agent tells the process group, that says more than the command, if the command did not say it all.
						if c.Method != test.method && c.Method != agent.MethodGroup {
							t.Errorf("process %d by %s/%s, want %s", pid, c.Method, c.Confidence, test.method)
						}
						t.Logf("%d %s %s/%s %s", pid, c.ID, c.Method, c.Confidence, r.truth[pid])
					}
				case *event.ClaimMismatch:
					t.Errorf("%s: call %s: claimed %q, kernel %q", c.Type, c.CallID, c.Claimed, c.Fact)
				}
			}
			// Codex refused those calls, opencode says nothing of servers.
			if want := map[string]int{"claude": 2, "gemini": 2}[test.name]; served != want {
				t.Errorf("%d calls are joined to their tool server, want %d", served, want)
			}
			seen := map[string]bool{}
			for pid, command := range r.truth {
				id := joined[pid]
				if id == "" && !slices.Contains(slices.Collect(maps.Values(calls)), command) && test.what == "everything" {
					t.Logf("the agent lost what it had to say of %q", command)
					continue
				}
				if id == "" {
					t.Errorf("process %d of %q is joined to no call", pid, command)
				}
				if seen[id] {
					t.Errorf("call %s has two processes", id)
				}
				seen[id] = true
			}
		})
	}
}
