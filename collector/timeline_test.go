// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

var update = flag.Bool("update", false, "rewrite the events in testdata")

// The timelines in testdata are text. A case starts with "## title"; then come steps, one a line, and
// after each the events that it made, as "=> …" lines. A blank line or one that starts with # says nothing.
//
//	in SANDBOX [CGROUP]           the cgroup ids of the records that follow
//	made ID PATH | gone ID        the kernel's news of a cgroup; /s1 to /s9 are sandboxes
//	unselect ID                   the registry no longer watches it
//	existing PID PARENT COMMAND…  found alive
//	fork PID PARENT
//	exec PID PARENT [NAME=VALUE…] [EXECUTABLE as] COMMAND…    PRIVILEGES is free or confined, and no variable
//	exit PID PARENT CODE|SIGNAME
//	open PID PARENT PATH | write PID PARENT PATH
//	connect PID PARENT ADDRESS:PORT [LOCAL] | flow PID PARENT ADDRESS:PORT
//	names NAME ADDRESS TTL        a DNS answer
//	lost SANDBOX PROBE N          the kernel counts N dropped records
//	syscalls SANDBOX NAME=N…      the kernel's counters stand at this
//	called SANDBOX PID NAME=N…    the process made these of them, and 3 that are none of them
//	undecoded N                   so many records could not be decoded so far
//	refused N                     so many cgroups found no room so far
//	after DURATION                time passes, then the pipeline's clock ticks
//	finish                        the source has ended
//	say PID …                     an agent's claim: see claims_timeline_test.go
//	show SESSION                  what is remembered of a session
//	explain                       findings are shown in full from now on, and mismatches are findings too
type timeline struct {
	t               *testing.T
	source          *fakeSource
	registry        *fakeSandboxes
	pipeline        *Pipeline
	now             time.Time
	sandbox, cgroup uint64
	pids            map[event.ProcessID]uint32
	shown           []string
	explain         bool
}

func newTimeline(t *testing.T) *timeline {
	tl := &timeline{
		t: t, source: newFakeSource(), registry: &fakeSandboxes{}, pids: map[event.ProcessID]uint32{},
		now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
	}
	secrets := &fakeDetector{
		rule: event.Rule{ID: "fake", UUID: "u", Severity: event.SeverityHigh, Kinds: []event.Kind{event.KindFileOpen}},
		find: func(e *event.Event) *event.Finding {
			if f, ok := e.Payload.(*event.FileOpen); ok && f.Class == event.FileClassSecret {
				return &event.Finding{Title: "read " + f.Path, Explanation: "A secret was read.", Objects: []string{f.Path}}
			}
			return nil
		},
	}
	mismatches := &fakeDetector{
		rule: event.Rule{ID: "claims", UUID: "v", Severity: event.SeverityLow, Kinds: []event.Kind{event.KindClaimMismatch}},
		find: func(e *event.Event) *event.Finding {
			if m, ok := e.Payload.(*event.ClaimMismatch); ok && tl.explain {
				return &event.Finding{Title: string(m.Type), Explanation: "They differ."}
			}
			return nil
		},
	}
	tl.pipeline = newTestPipeline(t, Settings{
		Source: tl.source, Sandboxes: tl.registry, Detectors: []Detector{secrets, mismatches},
		Exporters: []ExporterSettings{{Exporter: &fakeExporter{}}},
		Classify: func(path string) event.FileClass {
			if strings.Contains(path, "secret") {
				return event.FileClassSecret
			}
			return event.FileClassOther
		},
	})
	tl.pipeline.summary = tl.now
	return tl
}

func (tl *timeline) number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		tl.t.Fatal(err)
	}
	return n
}

// counts reads NAME=N words.
func (tl *timeline) counts(words []string) []event.Count {
	var list []event.Count
	for _, w := range words {
		name, n, _ := strings.Cut(w, "=")
		list = append(list, event.Count{Name: name, N: int64(tl.number(n))})
	}
	return list
}

// called reads a process and what it called.
func (tl *timeline) called(words []string) bpf.ProcessSyscalls {
	pid := tl.number(words[0])
	did := bpf.ProcessSyscalls{Task: bpf.Task{PID: uint32(pid), Start: pid * 1e6, Comm: "gone"}, Other: 3, Counts: tl.counts(words[1:])}
	for _, c := range did.Counts {
		did.Calls += c.N
	}
	return did
}

// named is the pid of a process by its UID, or what is none.
func (tl *timeline) named(uid string) string {
	for id, pid := range tl.pids {
		if id.String() == uid {
			return strconv.Itoa(int(pid))
		}
	}
	return uid
}

func (tl *timeline) step(line string) {
	words := strings.Fields(line)
	switch words[0] {
	case "in":
		tl.sandbox = tl.number(words[1])
		tl.cgroup = tl.number(words[len(words)-1])
	case "made":
		tl.handle(bpf.Task{}, &bpf.CgroupMade{ID: tl.number(words[1]), Path: words[2]})
	case "gone":
		tl.handle(bpf.Task{}, &bpf.CgroupGone{ID: tl.number(words[1])})
		delete(tl.source.counts, tl.number(words[1])) // as the kernel's go
	case "unselect":
		tl.registry.Gone(tl.number(words[1]))
	case "names":
		ttl, err := time.ParseDuration(words[3])
		if err != nil {
			tl.t.Fatal(err)
		}
		tl.handle(bpf.Task{}, &bpf.NameAnswers{Name: words[1], Answers: []bpf.NameAnswer{{Addr: netip.MustParseAddr(words[2]), TTL: ttl}}})
	case "answer":
		tl.handle(bpf.Task{}, dnsMessage(words[1:], true))
	case "lost":
		n := tl.number(words[3])
		tl.source.count(tl.number(words[1]), words[2], n, n)
	case "called":
		for i := range tl.source.syscalls {
			if c := &tl.source.syscalls[i]; c.Sandbox == tl.number(words[1]) {
				c.Processes = append(c.Processes, tl.called(words[2:]))
			}
		}
	case "syscalls":
		tl.source.syscalls = []bpf.SyscallCounts{{Sandbox: tl.number(words[1]), Counts: tl.counts(words[2:])}}
	case "undecoded":
		tl.source.undecoded = tl.number(words[1])
	case "refused":
		tl.source.refused = tl.number(words[1])
	case "after":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			tl.t.Fatal(err)
		}
		tl.now = tl.now.Add(d)
		tl.pipeline.tick(tl.now)
	case "say":
		tl.now = tl.now.Add(time.Millisecond)
		tl.say(words[1:])
	case "show":
		for _, v := range tl.pipeline.Session(words[1]) {
			tl.shown = append(tl.shown, showSession(&v)...)
		}
	case "finish":
		tl.pipeline.finish(tl.now)
	case "explain":
		tl.explain = true
	default:
		tl.process(words)
	}
}

// process takes the steps of a process.
func (tl *timeline) process(words []string) {
	pid, parent, rest := uint32(tl.number(words[1])), uint32(tl.number(words[2])), words[3:]
	task := bpf.Task{
		PID: pid, TID: pid, VPID: pid, ParentPID: parent, Start: uint64(pid) * 1e6, ParentStart: uint64(parent) * 1e6,
		StartTime: tl.now, Comm: "comm",
	}
	tl.pids[tl.pipeline.tree.Identity(pid, task.Start)] = pid
	tl.handle(task, tl.payload(words[0], rest))
}

func (tl *timeline) payload(step string, rest []string) any {
	switch step {
	case "existing":
		return &bpf.Existing{Executable: rest[0], Args: rest}
	case "fork":
		return &bpf.Fork{}
	case "exec":
		exec := &event.ProcessExec{Origin: event.OriginFile}
		for strings.Contains(rest[0], "=") {
			name, value, _ := strings.Cut(rest[0], "=")
			if name == "PRIVILEGES" { // free or confined
				exec.Privileges, rest = &event.Privileges{NoNewPrivs: value == "confined"}, rest[1:]
				continue
			}
			exec.Env, rest = append(exec.Env, event.EnvVar{Name: name, Value: value}), rest[1:]
		}
		if len(rest) > 2 && rest[1] == "-c" { // all that follows is the shell's
			rest = []string{rest[0], "-c", strings.Join(rest[2:], " ")}
		}
		exec.Executable, exec.Filename, exec.Args, exec.ArgsCount = rest[0], rest[0], rest, len(rest)
		if len(rest) > 2 && rest[1] == "as" { // its arguments begin with another name than the program's
			exec.Args, exec.ArgsCount = rest[2:], len(rest)-2
		}
		return exec
	case "exit":
		if rest[0] == "SIGKILL" {
			return &event.ProcessExit{Signal: 9, Exited: tl.now, Duration: time.Second}
		}
		return &event.ProcessExit{Code: int(tl.number(rest[0])), Exited: tl.now, Duration: time.Second}
	case "open":
		return &event.FileOpen{Path: rest[0], Access: event.AccessRead}
	case "write":
		return &event.FileOpen{Path: rest[0], Access: event.AccessWrite}
	case "connect":
		c := &event.NetworkConnect{Transport: event.TransportTCP, Peer: netip.MustParseAddrPort(rest[0])}
		if len(rest) > 1 {
			c.Local = netip.MustParseAddrPort(rest[1])
		}
		return c
	case "ask":
		return dnsMessage(rest, false)
	case "request":
		return streamOf(rest)
	case "change":
		return &event.FileChange{Operation: event.FileOperation(rest[0]), Path: rest[1], Target: strings.Join(rest[2:], " ")}
	case "flow":
		return &event.NetworkFlow{Transport: event.TransportTCP, Peer: netip.MustParseAddrPort(rest[0]), Sent: 10, Received: 20}
	}
	tl.t.Fatalf("unknown step: %s", step)
	return nil
}

func (tl *timeline) handle(task bpf.Task, payload any) {
	tl.now = tl.now.Add(time.Millisecond)
	tl.pipeline.handle(&bpf.Record{Time: tl.now, Sandbox: tl.sandbox, Cgroup: tl.cgroup, Task: task, Payload: payload})
}

// events is what was published since the last call.
func (tl *timeline) events() []string {
	q := tl.pipeline.outputs[0].queue
	lines := tl.shown
	tl.shown = nil
	if waiting, _ := q.state(); waiting == 0 {
		return lines
	}
	batch, _ := q.pull(nil, 1<<20)
	for _, e := range batch {
		lines = append(lines, "=> "+tl.show(e))
		if f, ok := e.Payload.(*event.Finding); ok && tl.explain {
			lines = append(lines, "=>   "+strings.Join(f.Chain, " → ")+": "+f.Explanation)
			if f.Context != nil {
				lines = append(lines, fmt.Sprintf("=>   %+v", *f.Context))
			}
		}
	}
	return lines
}

func (tl *timeline) show(e *event.Event) string {
	words := []string{strconv.FormatUint(e.Seq, 10), strings.TrimPrefix(string(e.Kind()), "watchglass.")}
	if e.Sandbox != nil {
		words = append(words, e.Sandbox.ID)
	}
	if p := e.Process; p != nil {
		words = append(words, fmt.Sprintf("%s[%d] root=%d", p.Name, p.PID, tl.pids[p.RootUID]))
		if p.Cgroup != "" {
			words = append(words, "cgroup="+p.Cgroup)
		}
		if a := p.Agent; a != nil {
			if a.SessionID != "" {
				words = append(words, "session="+a.SessionID)
			}
			words = append(words, fmt.Sprintf("agent=%s/%s/%s call=%s", a.Name, a.Method, a.Confidence, a.CallID))
		}
	}
	switch payload := e.Payload.(type) {
	case *event.FileOpen:
		words = append(words, "class="+string(payload.Class))
	case *event.Finding:
		words = append(words, fmt.Sprintf("id=%s evidence=%s state=%s count=%d", payload.ID,
			strings.TrimPrefix(strings.Join(payload.Evidence, " "), e.Instance), payload.State, payload.Count))
	case *event.ToolCall:
		if payload.Phase == event.PhaseJoined {
			words = append(words, fmt.Sprintf("call=%s %s/%s roots=%s exit=%d/%t", payload.ID, payload.Method, payload.Confidence,
				tl.roots(payload.Roots), payload.ExitCode, payload.Exited))
			if payload.SpanID != [8]byte{} {
				words = append(words, fmt.Sprintf("span=%x", payload.SpanID))
			}
		}
	case *event.ClaimMismatch:
		words = append(words, fmt.Sprintf("call=%s %s/%s roots=%s", payload.CallID, payload.Method, payload.Confidence, tl.roots(payload.Roots)))
	case *event.SyscallSummary:
		words = append(words, event.Counts(payload.Counts).Text())
		for _, c := range payload.Processes {
			words = append(words, fmt.Sprintf("%s:%d", tl.named(c.Name), c.N))
		}
	case *event.SyscallProcess:
		words = append(words, event.Counts(payload.Counts).Text(), fmt.Sprintf("other=%d", payload.Other))
	}
	if said, ok := e.Payload.(event.Said); ok && said.Said().Sender != event.SenderOwner {
		words = append(words, "sender="+string(said.Said().Sender))
	}
	return strings.Join(words, " ") + ": " + string(e.Payload.AppendBody(nil))
}

func TestTimelines(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no timelines: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runTimelines(t, file) })
	}
}

func runTimelines(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	var tl *timeline
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "=> ") {
			continue
		}
		out = append(out, line)
		switch {
		case strings.HasPrefix(line, "## "):
			tl = newTimeline(t)
		case line == "" || strings.HasPrefix(line, "#"):
		default:
			tl.step(line)
			out = append(out, tl.events()...)
		}
	}
	got := strings.Join(out, "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(strings.Split(string(text), "\n"), strings.Split(got, "\n")); diff != "" && !*update {
		t.Errorf("run with -update if this is meant (-want +got):\n%s", diff)
	}
}
