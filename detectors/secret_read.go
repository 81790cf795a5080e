// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"slices"
	"strings"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// secretRead reports each successful open for reading of a file that the policy calls a secret, each
// rename or hard link by which a secret gets a name that the policy does not know, and what is read of a secret that
// nobody in the sandbox opened: by a descriptor that was inherited or handed over.
//
// An open is the earliest moment that the kernel vouches for, and what was read is then in the
// process: waiting for a read(2) would miss mmap, io_uring and splice. Only where there was no open is what was read
// all there is.
type secretRead struct {
	remembering

	allowed func(path, executable string) bool
	// findings is by turn and path; own is the secrets that the sandbox itself wrote, and opened those that it opened,
	// by inode.
	findings    *memory.Memory[repeats]
	own, opened *memory.Memory[struct{}]
}

func newSecretRead(cfg *Config) *secretRead {
	d := &secretRead{
		remembering: remembering{rule: event.Rule{
			ID: "secret-read", UUID: "e63a5eb4-cdbd-4b88-98df-6b54abb69e55", Version: "1",
			Title:    "A secret was read",
			Severity: event.SeverityHigh,
			Attack:   []string{"T1552.001", "T1552.004"}, ASI: []string{"ASI03"},
			Kinds: []event.Kind{event.KindFileOpen, event.KindFileIO, event.KindFileRename, event.KindFileLink},
			MemoryBound: "per sandbox max_entries findings, as many of the sandbox's own secrets and as many that it opened, " +
				"at most 256 bytes each; max_sandboxes sandboxes; least recently used first; findings go with their session, the " +
				"sandbox's own and opened secrets with the sandbox: what one session wrote another may read",
			FalsePositives: "the agent's own credentials by the agent itself; an SSH key by ssh, stored git " +
				"credentials by git's transport, .npmrc by the package manager; files that the sandbox created itself; " +
				"handles without access (O_PATH), directories; policy.files.allow",
			Next: []string{
				"Look at what the same process tree sent afterwards.",
				"Rotate the secret if reading it was not part of the task.",
			},
			Runbook: "docs/detectors/secret-read.md",
		}},
		allowed:  cfg.Policy.SecretAllowed,
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
		own:      memory.New[struct{}](cfg.MaxSandboxes, cfg.MaxEntries),
		opened:   memory.New[struct{}](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings, d.own, d.opened}
	return d
}

// Detect implements Detector.
func (d *secretRead) Detect(e *event.Event, report func(*event.Finding)) {
	switch f := e.Payload.(type) {
	case *event.FileOpen:
		d.openedOne(e, f, report)
	case *event.FileIO:
		d.handedOver(e, f, report)
	case *event.FileChange:
		d.renamed(e, f, report)
	}
}

func (d *secretRead) openedOne(e *event.Event, f *event.FileOpen, report func(*event.Finding)) {
	if f.Class != event.FileClassSecret || f.Error != 0 || e.Sandbox == nil ||
		f.Access&(event.AccessPath|event.AccessDirectory) != 0 {
		return
	}
	sandbox, file := e.Sandbox.ID, d.own.File(f.Inode, f.Device)
	if f.Created {
		// It is empty: what is in it from here on, the sandbox wrote. Truncation would say the same, but
		// for openat2 it is the caller's word, which another thread may change after the kernel read it.
		d.own.Put(sandbox, file, struct{}{})
		return
	}
	d.opened.Put(sandbox, d.opened.File(f.Inode, f.Device), struct{}{})
	if f.Access&event.AccessRead == 0 || d.own.Get(sandbox, file) != nil || d.expected(e.Process, f.Path) {
		return
	}
	if seen := d.repeats(e, f.Path); seen.seen(&d.rule, e) {
		report(d.finding(e, f, seen))
	}
}

// repeats is the finding about a path in a turn.
func (d *secretRead) repeats(e *event.Event, path string) *repeats {
	session, call := turn(e.Process)
	return recall(d.findings, e, d.findings.Key(0, session, call, path))
}

// handedOver reports what is read of a secret that the sandbox neither opened nor wrote, as far as is remembered.
func (d *secretRead) handedOver(e *event.Event, f *event.FileIO, report func(*event.Finding)) {
	if f.Class != event.FileClassSecret || f.Read == 0 && !f.Mapped || e.Sandbox == nil || d.expected(e.Process, f.Path) {
		return
	}
	sandbox := e.Sandbox.ID
	if d.opened.Get(sandbox, d.opened.File(f.Inode, f.Device)) != nil || d.own.Get(sandbox, d.own.File(f.Inode, f.Device)) != nil {
		return
	}
	seen := d.repeats(e, f.Path)
	if !seen.seen(&d.rule, e) {
		return
	}
	path := cut(f.Path, longestPath)
	why := new(explanation).
		say(program(e.Process), " ", readOf(f), " ", path, hostName(f.HostPath), ", which nobody in the sandbox is known to have opened: ",
			"by a descriptor that it inherited, that was handed to it, or that is older than the watch; the policy calls this file a secret.").
		who(e.Process).
		repeated(seen.count)
	report(&event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Level: secretLevel(f.Path), Count: seen.count,
		Title:       program(e.Process) + " read the secret " + path + " by a descriptor of others",
		Explanation: why.String(),
		Objects:     []string{path},
		Evidence:    []string{e.UID()},
	})
}

// readOf is what was read, in words: what goes through a mapping is not counted.
func readOf(f *event.FileIO) string {
	if f.Read == 0 {
		return "mapped"
	}
	return "read " + string(event.AppendBytes(nil, f.Read)) + " of"
}

// renamed reports a secret that gets another name, under which its opens would be nobody's concern. The names are
// the caller's word, which can hide a secret that is renamed but not make up one.
func (d *secretRead) renamed(e *event.Event, f *event.FileChange, report func(*event.Finding)) {
	if f.Class != event.FileClassSecret || f.TargetClass == event.FileClassSecret || f.Error != 0 || e.Sandbox == nil ||
		f.Operation != event.FileRenamed && f.Operation != event.FileLinked || d.expected(e.Process, f.Path) {
		return
	}
	seen := d.repeats(e, f.Path)
	if !seen.seen(&d.rule, e) {
		return
	}
	path, target := cut(f.Path, longestPath), cut(f.Target, longestPath)
	why := new(explanation).
		say(program(e.Process), " gave ", path, " the name ", target, " and the kernel let it; the policy calls this file a secret, ",
			"and not by its new name.").
		who(e.Process).
		repeated(seen.count)
	report(&event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Level: secretLevel(f.Path), Count: seen.count,
		Title:       program(e.Process) + " gave the secret " + path + " another name",
		Explanation: why.String(),
		Objects:     []string{path, target},
		Evidence:    []string{e.UID()},
	})
}

func (d *secretRead) finding(e *event.Event, f *event.FileOpen, seen *repeats) *event.Finding {
	path := cut(f.Path, longestPath)
	result := "the kernel let it"
	if f.Unfinished {
		result = "its result is not known"
	}
	why := new(explanation).
		say(program(e.Process), " opened ", path, otherNames(f), " for reading and ", result, "; the policy calls this file a secret.").
		who(e.Process).
		repeated(seen.count)
	return &event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Level: secretLevel(f.Path), Count: seen.count,
		Title:       program(e.Process) + " read the secret " + path,
		Explanation: why.String(),
		Objects:     []string{path},
		Evidence:    []string{e.UID()},
	}
}

// otherNames is the other paths under which the file of an open is known.
func otherNames(f *event.FileOpen) string {
	names := hostName(f.HostPath)
	if f.Asked != "" {
		names += " (asked for as " + cut(f.Asked, longestPath) + ")"
	}
	return names
}

// hostName is a file's path on the host in brackets, where that is another one; it may be "".
func hostName(path string) string {
	if path == "" {
		return ""
	}
	return " (on the host " + cut(path, longestPath) + ")"
}

// secretLevel lowers what programs read all day in the course of their work: package managers' settings, which
// hold a token only sometimes, and a project's own environment file, which every run and every archive reads.
func secretLevel(path string) event.Severity {
	name := baseName(path)
	switch {
	case strings.HasPrefix(name, ".env"):
		return event.SeverityLow
	case name == ".npmrc", name == ".pypirc", name == ".yarnrc.yml":
		return event.SeverityMedium
	}
	return 0
}

// expected says that p is the program the secret is for, or that the configuration lets it read it.
func (d *secretRead) expected(p *event.Process, path string) bool {
	if p == nil {
		return false
	}
	return agentReadsItsOwn(p, path) || sshUsesKey(p, path) || gitUsesCredentials(p, path) ||
		packageManagerUsesSettings(p, path) || d.allowed(path, p.Executable)
}

// agentFile is one agent's credentials and the programs that the agent is.
type agentFile struct {
	suffix   string
	programs [2]string
	// packageDir is in the path of the script, for agents that run in an interpreter.
	packageDir string
}

func agentFiles() [7]agentFile {
	return [...]agentFile{
		{"/.codex/auth.json", [2]string{"codex"}, "/@openai/codex/"},
		{"/.claude/.credentials.json", [2]string{"claude", "claude.exe"}, "/@anthropic-ai/claude-code/"},
		{"/.gemini/oauth_creds.json", [2]string{"gemini"}, "/@google/gemini-cli/"},
		{"/.gemini/.env", [2]string{"gemini"}, "/@google/gemini-cli/"},
		{"/.local/share/opencode/auth.json", [2]string{"opencode", "opencode.exe"}, "/opencode-ai/"},
		// It fetches the packages of its plugins by itself, with the settings for npm beside them.
		{"/opencode/.npmrc", [2]string{"opencode", "opencode.exe"}, "/opencode-ai/"},
		{"/.aider.conf.yml", [2]string{"aider"}, "/site-packages/aider/"},
	}
}

// agentReadsItsOwn says that the file is an agent's and p the agent itself: its program, not in a
// temporary directory, in no tool call, and not started through a shell by another process of the
// same agent, as a tool that calls itself "codex" would be.
func agentReadsItsOwn(p *event.Process, path string) bool {
	if p.Agent != nil && p.Agent.CallID != "" || temporary(p.Executable) {
		return false
	}
	for _, a := range agentFiles() {
		if strings.HasSuffix(path, a.suffix) && a.isProgram(p) {
			return !a.startedByItsShell(p)
		}
	}
	return false
}

func (a *agentFile) isProgram(p *event.Process) bool {
	name := baseName(p.Executable)
	if isInterpreter(name) {
		run := script(p)
		if run == "" || temporary(run) {
			return false
		}
		if strings.Contains(run, a.packageDir) {
			return true
		}
		name = strings.TrimSuffix(baseName(run), ".js")
	}
	return name != "" && slices.Contains(a.programs[:], name)
}

func (a *agentFile) startedByItsShell(p *event.Process) bool {
	const furthest = 64
	shell := false
	for q, n := p.Parent, 0; q != nil && n < furthest; q, n = q.Parent, n+1 {
		if isShell(q.Name) {
			shell = true
		} else if shell && a.isProgram(q) {
			return true
		}
	}
	return false
}

// sshUsesKey says that ssh opened a key of its user in order to log in somewhere. ssh never prints a
// key; the ProxyCommand it may be told to run is a process of its own and no ssh.
func sshUsesKey(p *event.Process, path string) bool {
	if !strings.Contains(path, "/.ssh/") || !installed(p.Executable) || baseName(p.Executable) != "ssh" {
		return false
	}
	for _, arg := range p.Args[min(1, len(p.Args)):] {
		switch arg {
		case "-G", "-Q", "-V":
			return false
		}
	}
	return len(p.Args) > 1
}

// gitUsesCredentials says that git's own transport asks for stored credentials. "git credential fill",
// which prints them, has no transport among its ancestors.
func gitUsesCredentials(p *event.Process, path string) bool {
	switch baseName(path) {
	case ".git-credentials", "credentials", ".netrc":
	default:
		return false
	}
	if strings.HasSuffix(path, "/credentials") && !strings.HasSuffix(path, "/.config/git/credentials") {
		return false
	}
	if !installed(p.Executable) || !strings.HasPrefix(baseName(p.Executable), "git") {
		return false
	}
	for q, depth := p, 0; q != nil && depth < 4; q, depth = q.Parent, depth+1 {
		if installed(q.Executable) && strings.HasPrefix(baseName(q.Executable), "git-remote-http") {
			return true
		}
	}
	return false
}

// packageManagerUsesSettings says that a JavaScript package manager reads its own settings.
func packageManagerUsesSettings(p *event.Process, path string) bool {
	if name := baseName(path); name != ".npmrc" && name != ".yarnrc.yml" {
		return false
	}
	if temporary(p.Executable) || temporary(script(p)) {
		return false
	}
	if !isInterpreter(baseName(p.Executable)) {
		return false
	}
	switch strings.TrimSuffix(strings.TrimSuffix(baseName(script(p)), ".js"), ".cjs") {
	case "npm", "npx", "npm-cli", "npx-cli", "pnpm", "pnpx", "yarn", "yarnpkg", "corepack":
		return true
	}
	return false
}
