// SPDX-License-Identifier: Apache-2.0

package detectors

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

	"github.com/watchglass/watchglass/event"
)

var update = flag.Bool("update", false, "rewrite the findings in testdata and the headers in docs/detectors")

// The timelines in testdata are text: a case starts with "## title", then come steps, one a line,
// and after a step the findings it made, each as "=> …" and its explanation as "   …".
//
//	process PID [parent=PID] [agent=NAME] [method=env] [call=ID] [session=ID] [root=PID] EXECUTABLE [ARG…]
//	    a process as the tree knows it; steps name it by pid. Arguments are separated by blanks, %20 is a blank
//	open PID read+write [class=secret] [error=2] [inode=N] [mode=755] [created=yes] PATH
//	io PID READ [class=secret] [inode=N] [host=PATH] [mapped=yes] PATH      so many bytes were read of the file
//	connect PID tcp|udp ADDRESS:PORT [error=111] [name=NAME] [abandoned=yes]
//	exec PID [origin=memfd] [inode=N] [changed=-5s] [cwd=DIR]   the process's executable and arguments were executed
//	file PID unlink|rmdir|mkdir|rename [class=tmp] [error=13] [target=PATH] PATH
//	files PID unlink N PREFIX     one after the other: PREFIX1 to PREFIXN
//	posture PID [user=0] [userns=own] [caps=A+B] [seccomp=filter] [nnp=yes] [ns=net+pid] [mounts=/a+/b] [sockets=/a] [devices=/a]
//	    [network=own] [metadata=yes] [pids=N] [memory=N] [policy=yes]
//	exit PID cpu=DURATION [lived=DURATION]
//	usage CPU [WAITED]    the sandbox has used so much processor time so far, and waited so long for more
//	call PID SERVER [end]       a call of a tool server's tool, by the agent's word; end: its end
//	granted PID SERVER
//	sandbox NAME      the steps that follow happen in this sandbox; it was watched from now on
//	repeat N STEP [; STEP…]     the steps N times
//	forget NAME       the sandbox is gone
//	wait DURATION
//	tick      time makes detectors look
//	dns PID NAME
//	stop [outlived=N] [left=N] [names=a+b]     the sandbox ends
//	begin NAME SESSION  the session of an agent begins, or goes on
//	end NAME SESSION    the session of an agent ends, in this sandbox
//	finding PID SEVERITY    another detector found something of that severity
//	allow secret PATH EXECUTABLE | allow ADDRESS:PORT
type timeline struct {
	t         *testing.T
	detectors []Detector
	oversight *Oversight
	now       time.Time
	seq       uint64
	sandboxes map[string]*event.Sandbox
	sandbox   *event.Sandbox
	processes map[string]*event.Process
	secrets   map[string]string
	peers     map[string]bool
	out       []string
}

func newTimeline(t *testing.T, cfg Config, only string) *timeline {
	t.Helper()
	tl := &timeline{
		t: t, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		sandboxes: map[string]*event.Sandbox{}, processes: map[string]*event.Process{},
		secrets: map[string]string{}, peers: map[string]bool{},
	}
	cfg.Policy = Policy{
		SecretAllowed: func(path, executable string) bool { return executable != "" && tl.secrets[path] == executable },
		Allowed: func(transport event.Transport, peer netip.AddrPort) bool {
			return len(tl.peers) == 0 || tl.peers[peer.String()]
		},
		Observing: func() bool { return len(tl.peers) == 0 },
	}
	base := NewBaselines(&cfg)
	cfg.Usual = base
	all, err := New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	tl.oversight = NewOversight(base, &Profiles{})
	for _, d := range all {
		// What baselines-agree finds depends on what the others do.
		if d.Rule().ID == only || only == ruleBaselinesAgree && statisticalOf(d.Rule()) < statistical {
			tl.detectors = append(tl.detectors, d)
		}
	}
	tl.step("sandbox s1")
	return tl
}

// fields splits "k=v" words that stand before the first word of another form.
func fields(words []string) (options map[string]string, rest []string) {
	options = map[string]string{}
	for i, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || strings.Contains(k, "/") {
			return options, words[i:]
		}
		options[k] = v
	}
	return options, nil
}

func (tl *timeline) number(s string) uint64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		tl.t.Fatal(err)
	}
	return n
}

func (tl *timeline) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		tl.t.Fatal(err)
	}
	return d
}

func (tl *timeline) process(pid string) *event.Process {
	p := tl.processes[pid]
	if p == nil {
		tl.t.Fatalf("no process %q", pid)
	}
	return p
}

func (tl *timeline) step(line string) {
	words := strings.Fields(line)
	options, rest := map[string]string{}, []string(nil)
	if len(words) > 2 && words[0] != "usage" {
		options, rest = fields(words[2:])
	}
	switch words[0] {
	case "tick":
		for _, d := range tl.detectors {
			if ticker, ok := d.(Ticker); ok {
				tl.oversight.Tick(ticker, tl.now, tl.found)
			}
		}
	case "sandbox":
		if tl.sandboxes[words[1]] == nil {
			tl.sandboxes[words[1]] = &event.Sandbox{ID: words[1], Name: words[1], Started: tl.now}
		}
		tl.sandbox = tl.sandboxes[words[1]]
	case "process":
		tl.addProcess(words[1], options, rest)
	case "open":
		tl.open(words)
	case "io":
		options, rest := fields(words[3:])
		tl.publish(words[1], &event.FileIO{
			Path: rest[0], HostPath: options["host"], Class: event.FileClass(options["class"]),
			Read: tl.number(words[2]), Written: 1, Mapped: options["mapped"] == "yes", Inode: tl.number(options["inode"]), Device: 8 << 20,
		})
	case "rename", "link":
		tl.change(words)
	case "connect":
		tl.connect(words)
	case "exec":
		tl.exec(words[1], options)
	case "file":
		tl.alter(words[1], words[2], words[3:])
	case "stop":
		tl.stop(words[1:])
	case "begin":
		tl.show(nil, &event.SessionStart{Claim: event.Claim{Agent: words[1], Session: words[2]}})
	case "end":
		tl.show(nil, &event.SessionEnd{Claim: event.Claim{Agent: words[1], Session: words[2]}})
	case "finding":
		level, err := event.ParseFindingSeverity(words[2])
		if err != nil {
			tl.t.Fatal(err)
		}
		e := &event.Event{Time: tl.now, Sandbox: tl.sandbox, Process: tl.process(words[1])}
		tl.oversight.judge(e, &event.Finding{Rule: &event.Rule{ID: "another"}, ID: "another-1", Level: level})
	case "dns":
		tl.publish(words[1], &event.DNSQuery{Name: words[2]})
	case "exit":
		lived := options["lived"]
		if lived == "" {
			lived = options["cpu"]
		}
		tl.publish(words[1], &event.ProcessExit{
			Exited: tl.now, Duration: tl.duration(lived), Usage: &event.Usage{User: tl.duration(options["cpu"])},
		})
	case "usage":
		waited := time.Duration(0)
		if len(words) > 2 {
			waited = tl.duration(words[2])
		}
		tl.measure(tl.duration(words[1]), waited)
	case "call", "granted":
		tl.claim(words)
	case "files":
		for i := range tl.number(words[3]) {
			tl.alter(words[1], words[2], []string{words[4] + strconv.FormatUint(i+1, 10)})
		}
	case "posture":
		tl.posture(words[1], options)
	case "repeat":
		for range tl.number(words[1]) {
			for step := range strings.SplitSeq(strings.Join(words[2:], " "), " ; ") {
				tl.step(step)
			}
		}
	case "forget":
		for _, d := range tl.detectors {
			d.Forget(words[1])
		}
	case "wait":
		tl.now = tl.now.Add(tl.duration(words[1]))
	case "allow":
		if words[1] == "secret" {
			tl.secrets[words[2]] = words[3]
		} else {
			tl.peers[words[1]] = true
		}
	default:
		tl.t.Fatalf("unknown step: %s", line)
	}
}

func (tl *timeline) addProcess(pid string, options map[string]string, rest []string) {
	p := &event.Process{PID: uint32(tl.number(pid)), UID: event.ProcessID(tl.number(pid)), Start: tl.now, UserID: 1000}
	for i := range rest {
		rest[i] = strings.ReplaceAll(rest[i], "%20", " ")
	}
	p.Executable, p.Name, p.Args = rest[0], baseName(rest[0]), rest
	if len(rest) > 1 { // an executable alone has itself as its only argument
		p.Args = append([]string{p.Name}, rest[1:]...)
	}
	if parent := options["parent"]; parent != "" {
		p.Parent = tl.process(parent)
		p.ParentPID, p.ParentUID, p.RootUID, p.Agent = p.Parent.PID, p.Parent.UID, p.Parent.RootUID, p.Parent.Agent
		if p.Agent != nil && p.Agent.Method == "executable" {
			inherited := *p.Agent
			inherited.Method = "inherited"
			p.Agent = &inherited
		}
	}
	if root := options["root"]; root != "" {
		p.RootUID = event.ProcessID(tl.number(root))
	}
	if name := options["agent"]; name != "" {
		p.Agent = &event.Agent{
			Name: name, CallID: options["call"], SessionID: options["session"], Method: "env", Confidence: "exact",
		}
		if options["method"] != "" {
			p.Agent.Method = options["method"]
		}
	}
	tl.processes[pid] = p
}

func (tl *timeline) open(words []string) {
	options, rest := fields(words[3:])
	f := &event.FileOpen{
		Path: strings.Join(rest, " "), Class: event.FileClass(options["class"]),
		Error: event.Errno(tl.number(options["error"])), Inode: tl.number(options["inode"]), Device: 8 << 20,
		Created: options["created"] == "yes", HostPath: options["host"], Asked: options["asked"],
	}
	for i, name := range event.Access(0xff).Names() {
		for have := range strings.SplitSeq(words[2], "+") {
			if have == name {
				f.Access |= 1 << i
			}
		}
	}
	if mode := options["mode"]; mode != "" {
		bits, err := strconv.ParseUint(mode, 8, 32)
		if err != nil {
			tl.t.Fatal(err)
		}
		f.Mode = uint32(bits)
	}
	tl.publish(words[1], f)
}

// change is "rename PID class=CLASS target=CLASS PATH NEW".
func (tl *timeline) change(words []string) {
	options, rest := fields(words[2:])
	tl.publish(words[1], &event.FileChange{
		Operation: event.FileOperation(words[0]), Path: rest[0], Target: rest[1], Claimed: true,
		Class: event.FileClass(options["class"]), TargetClass: event.FileClass(options["target"]),
		Error: event.Errno(tl.number(options["error"])),
	})
}

func (tl *timeline) connect(words []string) {
	options, _ := fields(words[4:])
	peer, err := netip.ParseAddrPort(words[3])
	if err != nil {
		tl.t.Fatal(err)
	}
	tl.publish(words[1], &event.NetworkConnect{
		Transport: event.Transport(words[2]), Peer: peer, PeerName: options["name"],
		Error: event.Errno(tl.number(options["error"])), Abandoned: options["abandoned"] == "yes",
	})
}

func (tl *timeline) stop(words []string) {
	options, _ := fields(words)
	stop := &event.SandboxStop{Outlived: int(tl.number(options["outlived"])), Left: int(tl.number(options["left"]))}
	if options["names"] != "" {
		stop.Outlivers = strings.Split(options["names"], "+")
	}
	tl.show(nil, stop)
}

// claim is "call PID SERVER [end]" or "granted PID SERVER".
func (tl *timeline) claim(words []string) {
	said := event.Claim{Agent: "codex", Session: "s-1", Sender: event.SenderOwner}
	if words[0] == "granted" {
		tl.publish(words[1], &event.Approval{Claim: said, State: event.ApprovalGranted, Tool: "mcp__" + words[2] + "__x"})
		return
	}
	call := &event.ToolCall{Claim: said, Phase: event.PhaseStart, ID: "c", Name: "x", MCPServer: words[2]}
	if len(words) > 3 {
		call.Phase = event.PhaseEnd
	}
	tl.publish(words[1], call)
}

func (tl *timeline) measure(cpu, waited time.Duration) {
	tl.show(nil, &event.ResourceUsage{CPU: &event.CPUUsage{Total: cpu}, Pressure: event.Pressures{CPU: &event.Pressure{Some: waited}}})
}

func (tl *timeline) exec(pid string, options map[string]string) {
	p := tl.process(pid)
	x := &event.ProcessExec{
		Args: p.Args, ArgsCount: len(p.Args), Executable: p.Executable,
		WorkingDirectory: options["cwd"], Origin: event.Origin(options["origin"]), Inode: tl.number(options["inode"]), Device: 8 << 20,
	}
	if changed := options["changed"]; changed != "" {
		x.Changed = tl.now.Add(tl.duration(changed))
	}
	tl.publish(pid, x)
}

func (tl *timeline) alter(pid, operation string, words []string) {
	options, rest := fields(words)
	tl.publish(pid, &event.FileChange{
		Operation: event.FileOperation(operation), Path: strings.Join(rest, " "), Target: options["target"],
		Class: event.FileClass(options["class"]), Error: event.Errno(tl.number(options["error"])),
	})
}

func (tl *timeline) posture(pid string, options map[string]string) {
	list := func(name string) []string {
		if options[name] == "" {
			return nil
		}
		return strings.Split(options[name], "+")
	}
	seccomp := options["seccomp"]
	if seccomp == "" {
		seccomp = "disabled"
	}
	p := &event.SandboxPosture{
		UserID: uint32(tl.number(options["user"])), InitialUserNS: options["userns"] != "own", Capabilities: list("caps"),
		NoNewPrivs: options["nnp"] == "yes", Seccomp: seccomp, HostNamespaces: list("ns"), WritableMounts: list("mounts"),
		Sockets: list("sockets"), Devices: list("devices"), Network: options["network"], MetadataRoute: options["metadata"] == "yes",
		PidsLimit: tl.number(options["pids"]), MemoryLimit: tl.number(options["memory"]),
	}
	p.Assess(options["policy"] == "yes")
	tl.publish(pid, p)
}

// publish gives an event to the detectors, as the pipeline does, and writes down their findings.
func (tl *timeline) publish(pid string, payload event.Payload) { tl.show(tl.process(pid), payload) }

func (tl *timeline) show(process *event.Process, payload event.Payload) {
	tl.seq++
	tl.now = tl.now.Add(time.Millisecond)
	e := &event.Event{
		Time: tl.now, Observed: tl.now, Seq: tl.seq, Instance: "t",
		Sandbox: tl.sandbox, Process: process, Payload: payload,
	}
	for _, d := range tl.detectors {
		wanted := false
		for _, kind := range d.Rule().Kinds {
			wanted = wanted || kind == e.Kind()
		}
		if wanted {
			tl.oversight.Show(d, e, func(f *event.Finding) { tl.found(e, f) })
		}
	}
}

func (tl *timeline) found(e *event.Event, f *event.Finding) {
	if len(f.Evidence) == 0 || f.Evidence[len(f.Evidence)-1] != e.UID() || f.ID == "" || f.Count < 1 {
		tl.t.Errorf("incomplete finding: %+v", f)
	}
	tl.out = append(tl.out,
		fmt.Sprintf("=> %s %s %s count=%d: %s %q", f.State, f.Severity().FindingName(), f.ID, f.Count, f.Title, f.Objects),
		"   "+f.Explanation)
}

// TestTimelines runs the text timelines. A timeline has the name of its detector.
func TestTimelines(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no timelines: %v", err)
	}
	for _, file := range files {
		id := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(id, func(t *testing.T) { runTimeline(t, id, file) })
	}
}

func runTimeline(t *testing.T, id, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	var tl *timeline
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "=>"), strings.HasPrefix(line, "   "):
			continue
		case strings.HasPrefix(line, "##"):
			cfg := DefaultConfig()
			cfg.Canaries = []string{"/root/.aws/backup-credentials", "trap.example.net", "AKIACANARYCANARYCANARY"}
			tl = newTimeline(t, cfg, id)
			out = append(out, line)
		case line == "" || strings.HasPrefix(line, "#"):
			out = append(out, line)
		default:
			tl.out = nil
			tl.step(line)
			out = append(append(out, line), tl.out...)
		}
	}
	got := strings.Join(out, "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil { //nolint:gosec // test data
			t.Fatal(err)
		}
		return
	}
	if got != string(text) {
		t.Errorf("the findings differ from %s (go test ./detectors -update rewrites it):\n%s", file, differences(string(text), got))
	}
}

func differences(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var d strings.Builder
	for len(a) > 0 || len(b) > 0 {
		if len(a) > 0 && len(b) > 0 && a[0] == b[0] {
			a, b = a[1:], b[1:]
			continue
		}
		if len(a) > 0 && (strings.HasPrefix(a[0], "=>") || strings.HasPrefix(a[0], "   ")) {
			fmt.Fprintf(&d, "- %s\n", a[0])
			a = a[1:]
		} else if len(b) > 0 {
			fmt.Fprintf(&d, "+ %s\n", b[0])
			b = b[1:]
		} else {
			fmt.Fprintf(&d, "- %s\n", a[0])
			a = a[1:]
		}
	}
	return d.String()
}
