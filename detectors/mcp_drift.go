// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// peersKept is how many destinations of one tool server are remembered; what comes after is not judged.
const peersKept = 32

// mcpDrift reports tool servers (Model Context Protocol) that are new since a tool call wrote their list, that are
// started otherwise than when they were approved, that run a shell, and that reach where they never did.
type mcpDrift struct {
	remembering

	findings *memory.Memory[repeats]
	// running is the servers by their process, pins how each is started by what it is, known the names that calls
	// give, lists when a tool call wrote the list last.
	running *memory.Memory[toolServer]
	pins    *memory.Memory[pin]
	known   *memory.Memory[struct{}]
	lists   *memory.Memory[listChange]
	// uses is when a tool of any server was used or approved last.
	uses *memory.Memory[time.Time]
	// reached is where the agents' own programs connected: servers over HTTP are no processes here.
	reached *memory.Memory[struct{}]
}

// toolServer is a running server.
type toolServer struct {
	identity, agent string
	// host is the agent's process that started it.
	host event.ProcessID
	// starting is true while its own process is a shell that will run the server: wrappers such as pyenv's start others.
	starting bool
	// peers is where it connected.
	peers []netip.Addr
}

// pin is how a server was started when it was used first.
type pin struct {
	command uint64
	line    string
	at      time.Time
}

// listChange is the last time that a tool call wrote a list of servers.
type listChange struct {
	at       time.Time
	path, by string
	event    string
}

func newMCPDrift(cfg *Config) *mcpDrift {
	d := &mcpDrift{
		remembering: remembering{rule: event.Rule{
			ID: "mcp-drift", UUID: "f0b6a1c4-9d3e-4d0b-8f57-6a2c5e7d9b83", Version: "1",
			Title:    "A tool server is not what was approved",
			Severity: event.SeverityMedium,
			Attack:   []string{"T1195", "T1554"}, ASI: []string{"ASI04", "ASI07"},
			Kinds: []event.Kind{
				event.KindProcessExec, event.KindFileOpen, event.KindFileRename, event.KindNetworkConnect, event.KindToolCall, event.KindApproval,
			},
			MemoryBound: "per sandbox max_entries findings, servers, commands (at most 512 bytes each), names and destinations of agents, 32 destinations of each " +
				"server; max_sandboxes sandboxes; least recently used first; findings and commands go with their session, servers with " +
				"their processes, and with the sandbox its known names, the destinations of its agents and the last list: what one session " +
				"writes another starts",
			FalsePositives: "until a server's first call its command and its destinations may be anything; lists that the agent itself " +
				"or the user's editor writes; shells by which npx, pyenv and their like start the server itself; loopback",
			Confidence: event.ConfidenceMedium,
			Next: []string{
				"Compare the agent's list of tool servers with its last version.",
				"Look at what the server's process did: its children, its files, its connections.",
			},
			Runbook: "docs/detectors/mcp-drift.md",
		}},
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
		running:  memory.New[toolServer](cfg.MaxSandboxes, cfg.MaxEntries),
		pins:     memory.New[pin](cfg.MaxSandboxes, cfg.MaxEntries),
		known:    memory.New[struct{}](cfg.MaxSandboxes, cfg.MaxEntries),
		lists:    memory.New[listChange](cfg.MaxSandboxes, 1),
		uses:     memory.New[time.Time](cfg.MaxSandboxes, 1),
		reached:  memory.New[struct{}](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings, d.running, d.pins, d.known, d.lists, d.uses, d.reached}
	return d
}

// Detect implements Detector.
func (d *mcpDrift) Detect(e *event.Event, report func(*event.Finding)) {
	if e.Sandbox == nil {
		return
	}
	switch p := e.Payload.(type) {
	case *event.ProcessExec:
		d.executed(e, report)
	case *event.FileOpen:
		if p.Class == event.FileClassConfig && p.Error == 0 && p.Access&(event.AccessWrite|event.AccessCreate|event.AccessTruncate) != 0 {
			d.written(e, p.Path)
		}
	case *event.FileChange:
		if p.Error == 0 && p.TargetClass == event.FileClassConfig {
			d.written(e, p.Target)
		}
	case *event.NetworkConnect:
		switch {
		case p.Error != 0 && !p.Abandoned:
		case e.Process != nil && ownProcess(e.Process):
			d.agentConnected(e, p, report)
		case p.Error == 0:
			d.connected(e, p, report)
		}
	case *event.ToolCall:
		if p.MCPServer != "" && p.Phase != event.PhaseJoined && p.Sender == event.SenderOwner {
			d.used(e, p, report)
		}
	case *event.Approval:
		if p.State == event.ApprovalGranted && strings.HasPrefix(p.Tool, "mcp__") && p.Sender == event.SenderOwner {
			d.approve(e)
		}
	}
}

// written notes that a tool call wrote a list of servers.
func (d *mcpDrift) written(e *event.Event, path string) {
	if e.Process == nil || e.Process.Agent == nil || ownProcess(e.Process) || !isServerList(path) {
		return
	}
	d.lists.Put(e.Sandbox.ID, d.lists.Key(0), listChange{
		at: e.Time, path: cut(path, longestPath), by: cut(program(e.Process), longestCommand), event: e.UID(),
	})
}

// executed looks at a process that is a server, or that one started.
func (d *mcpDrift) executed(e *event.Event, report func(*event.Finding)) {
	p := e.Process
	if p == nil {
		return
	}
	server := d.serverAbove(e)
	if server != nil && p.UID == p.RootUID { // in its own place
		server.starting = isShell(program(p))
		return
	}
	if identity := serverOf(p); server == nil && identity != "" {
		d.started(e, identity, report)
		return
	}
	if server == nil || server.starting || !isShell(program(p)) || slices.ContainsFunc(p.Args, func(arg string) bool { return strings.Contains(arg, server.identity) }) {
		return
	}
	title := "the tool server " + server.identity + " ran a shell: " + command(p.Args)
	d.report(e, drift{
		key: d.findings.Key(uint64(p.RootUID), "shell"), title: title, object: server.identity,
		why: "What a server does is not what the agent, or its user, approved call by call.",
	}, report)
}

// started compares how a server is started with how it was when it was used first.
func (d *mcpDrift) started(e *event.Event, identity string, report func(*event.Finding)) {
	p, sandbox := e.Process, e.Sandbox.ID
	process := d.running.Key(uint64(p.UID))
	d.running.Put(sandbox, process, toolServer{
		identity: identity, agent: agentOf(p), host: p.Parent.UID, starting: isShell(program(p)),
	})
	d.running.Own(sandbox, process, d.running.Tree(uint64(p.RootUID)))
	// Each agent has servers of its own: another one beside it, in another project, starts the same otherwise.
	key := d.pins.Key(uint64(p.Parent.UID), agentOf(p), identity)
	now := pin{command: d.pins.Key(1, append([]string{p.Executable}, p.Args...)...), line: command(p.Args), at: e.Time}
	defer give(d.pins, e, key)
	was := d.pins.Get(sandbox, key)
	switch {
	case was == nil && d.listChanged(e) != nil && d.approved(sandbox, time.Time{}):
		change := d.listChanged(e)
		d.pins.Put(sandbox, key, now)
		d.report(e, drift{
			key: d.findings.Key(2, identity), level: event.SeverityHigh, object: identity, evidence: change.event,
			title: "a new tool server was started, " + identity + ", after " + change.by + " wrote " + change.path,
			why:   "A tool call wrote the list of servers, so nobody but the agent chose this one.",
		}, report)
	case was == nil:
		d.pins.Put(sandbox, key, now)
	case was.command == now.command:
	case !d.approved(sandbox, was.at):
		*was = now
	default:
		d.report(e, drift{
			key: d.findings.Key(now.command, identity), object: identity,
			title: "the tool server " + identity + " is started otherwise: " + now.line,
			why:   "When it was used first it was: " + was.line + ".",
		}, report)
	}
}

// used takes a call of a server's tool.
func (d *mcpDrift) used(e *event.Event, call *event.ToolCall, report func(*event.Finding)) {
	sandbox, name := e.Sandbox.ID, cut(call.MCPServer, longestCommand)
	key := d.known.Key(0, call.Agent, name)
	known := d.known.Get(sandbox, key) != nil
	d.known.Put(sandbox, key, struct{}{})
	if call.Phase == event.PhaseEnd {
		d.approve(e)
	}
	change := d.listChanged(e)
	if known || change == nil {
		return
	}
	d.report(e, drift{
		key: d.findings.Key(3, name), object: name, evidence: change.event,
		title: "a tool of the new server " + name + " was called, after " + change.by + " wrote " + change.path,
		why:   "A tool call wrote the list of servers, so nobody but the agent chose this one.",
	}, report)
}

// approve pins how the servers that run were started.
func (d *mcpDrift) approve(e *event.Event) { d.uses.Put(e.Sandbox.ID, d.uses.Key(0), e.Time) }

// approved says whether a server was used since something: before, everything is being set up.
func (d *mcpDrift) approved(sandbox string, since time.Time) bool {
	at := d.uses.Get(sandbox, d.uses.Key(0))
	return at != nil && !at.Before(since)
}

// connected looks where a server's processes reach.
func (d *mcpDrift) connected(e *event.Event, n *event.NetworkConnect, report func(*event.Finding)) {
	server := d.serverAbove(e)
	scope := event.ScopeOf(n.Peer.Addr())
	if server == nil || scope != event.ScopePublic && scope != event.ScopePrivate && scope != event.ScopeMetadata || n.Peer.Port() == 0 {
		return
	}
	address := n.Peer.Addr().Unmap()
	if slices.Contains(server.peers, address) || len(server.peers) >= peersKept {
		return
	}
	first := d.pins.Get(e.Sandbox.ID, d.pins.Key(uint64(server.host), server.agent, server.identity))
	if first == nil || !d.approved(e.Sandbox.ID, first.at) {
		server.peers = append(server.peers, address)
		return
	}
	destination := n.Peer.String()
	if n.PeerName != "" {
		destination += " (" + cut(n.PeerName, longestCommand) + ")"
	}
	d.report(e, drift{
		key: d.findings.Key(uint64(n.Peer.Port()), server.identity, address.String()), level: event.SeverityLow, object: destination,
		title: "the tool server " + server.identity + " reached " + destination + ", where it never did",
		why:   "It knew " + strconv.Itoa(len(server.peers)) + " destinations when it was used first.",
	}, report)
}

// listRecently is for how long a written list is a reason for what the agent itself does.
const listRecently = time.Hour

// agentConnected looks where an agent's own program connects: a server over HTTP is reached by that. What it did before a
// tool call wrote the list is its own business, and what it does at once after it that it never did is the list's.
func (d *mcpDrift) agentConnected(e *event.Event, n *event.NetworkConnect, report func(*event.Finding)) {
	scope := event.ScopeOf(n.Peer.Addr())
	if n.Peer.Port() == 0 || n.Peer.Port() == 53 || scope == event.ScopeUnspecified || scope == event.ScopeMulticast {
		return
	}
	to := site(n.PeerName)
	if to == "" {
		to = n.Peer.Addr().Unmap().String()
	}
	port := uint64(0)
	if scope == event.ScopeLoopback { // one machine has many servers
		port = uint64(n.Peer.Port())
	}
	key := d.reached.Key(port, agentOf(e.Process), to)
	known := d.reached.Get(e.Sandbox.ID, key) != nil
	d.reached.Put(e.Sandbox.ID, key, struct{}{})
	change := d.listChanged(e)
	if known || change == nil || e.Time.Sub(change.at) > listRecently {
		return
	}
	destination := n.Peer.String()
	if n.PeerName != "" {
		destination += " (" + cut(n.PeerName, longestCommand) + ")"
	}
	d.report(e, drift{
		key: d.findings.Key(4, to), object: destination, evidence: change.event,
		title: agentOf(e.Process) + " itself reached " + destination + ", where it never did, after " + change.by + " wrote " + change.path,
		why:   "A tool server that is reached over HTTP is no process here: a list that a tool call wrote, and a new destination, is what is seen of it.",
	}, report)
}

// serverAbove is the server that a process is of, nil for none.
func (d *mcpDrift) serverAbove(e *event.Event) *toolServer {
	if e.Process == nil || e.Process.RootUID == 0 {
		return nil
	}
	return d.running.Get(e.Sandbox.ID, d.running.Key(uint64(e.Process.RootUID)))
}

func (d *mcpDrift) listChanged(e *event.Event) *listChange {
	return d.lists.Get(e.Sandbox.ID, d.lists.Key(0))
}

// drift is what is to be reported, if it was not lately.
type drift struct {
	key                          uint64
	level                        event.Severity
	title, why, object, evidence string
}

func (d *mcpDrift) report(e *event.Event, x drift, report func(*event.Finding)) {
	seen := recall(d.findings, e, x.key)
	if !seen.seen(&d.rule, e) {
		return
	}
	f := &event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Level: x.level, Count: seen.count, Title: x.title,
		Explanation: new(explanation).say(upper(x.title), ". ", x.why).who(e.Process).repeated(seen.count).String(),
		Objects:     []string{x.object}, Evidence: []string{e.UID()},
	}
	if x.evidence != "" {
		f.Evidence = []string{x.evidence, e.UID()}
	}
	report(f)
}

// ownProcess says that it is the agent's own program, and not what a tool call started.
func ownProcess(p *event.Process) bool {
	return p.Agent != nil && p.Agent.Method == "executable" && p.Agent.CallID == ""
}

func agentOf(p *event.Process) string {
	if p.Agent == nil {
		return ""
	}
	return p.Agent.Name
}

// serverOf is what a server is, "" when the process is none: the agent's own program starts it, for no tool call, and
// its program, script or package has mcp in its name.
func serverOf(p *event.Process) string {
	const mostArguments = 16
	if p.Parent == nil || !ownProcess(p.Parent) || ownProcess(p) || p.Agent != nil && p.Agent.CallID != "" {
		return ""
	}
	for i, arg := range p.Args[:min(len(p.Args), mostArguments)] {
		if i > 0 && strings.HasPrefix(arg, "-") || len(arg) > longestCommand {
			continue
		}
		if name := toolServerName(arg); name != "" {
			return name
		}
	}
	return ""
}

// toolServerName is what of an argument names a tool server: a package, or one of the last elements of a path; "" for nothing.
func toolServerName(arg string) string {
	const mostElements = 3
	elements := []string{arg}
	if !strings.HasPrefix(arg, "@") { // of a package, the scope belongs to the name
		elements = strings.Split(arg, "/")
	}
	for _, name := range slices.Backward(elements[max(0, len(elements)-mostElements):]) {
		if lower := strings.ToLower(name); strings.Contains(lower, "mcp") || strings.Contains(lower, "modelcontextprotocol") {
			return strings.TrimSuffix(strings.TrimSuffix(name, ".js"), ".py")
		}
	}
	return ""
}

// isServerList says that agents read their tool servers from the file.
func isServerList(path string) bool {
	for _, name := range [...]string{
		"/.mcp.json", "/.claude.json", "/.claude/settings.json", "/.codex/config.toml", "/.cursor/mcp.json", "/.gemini/settings.json",
		"/opencode.json", "/opencode.jsonc", "/.vscode/mcp.json",
	} {
		if strings.HasSuffix(path, name) {
			return true
		}
	}
	return false
}
