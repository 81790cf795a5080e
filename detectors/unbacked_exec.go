// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"strings"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// unbackedExec reports programs that no package and no compiler answers for: anonymous memory, files
// without a name left, and executables in temporary directories that this session brought there.
//
// Whether a compiler made a file is told by who opened it for writing, as the kernel saw it: each
// such open is remembered by inode, so that a rename in between changes nothing.
type unbackedExec struct {
	remembering

	freshFor   time.Duration
	toolchains []string
	findings   *memory.Memory[repeats]
	// writers is who wrote a file last, by inode; tools whether a tool's executable is believed, by path.
	writers *memory.Memory[writer]
	tools   *memory.Memory[bool]
}

// writer is the last program that opened a file for writing.
type writer struct {
	name string
	kind writerKind
}

type writerKind uint8

const (
	writerOther writerKind = iota
	writerInstaller
	writerCompiler
)

func newUnbackedExec(cfg *Config) *unbackedExec {
	d := &unbackedExec{
		remembering: remembering{rule: event.Rule{
			ID: "unbacked-exec", UUID: "c6326a78-5a1e-44e2-9a1e-238ca917e95b", Version: "1",
			Title:    "A program ran that no package and no compiler put there",
			Severity: event.SeverityHigh,
			Attack:   []string{"T1620", "T1036"}, ASI: []string{"ASI05"},
			Kinds: []event.Kind{event.KindProcessExec, event.KindFileOpen},
			MemoryBound: "per sandbox max_entries findings, recently written files and compilers, " +
				"at most 256 bytes each; max_sandboxes sandboxes; least recently used first; findings go with their session, files " +
				"and compilers with the sandbox: what one session wrote another may execute",
			FalsePositives: "what a compiler or linker wrote, when the tool itself was not brought by the session; " +
				"dependencies unpacked by a package manager; container runtimes that run from a sealed copy of themselves; " +
				"an installed program that runs itself again after an upgrade; files that are older than the sandbox",
			Confidence: event.ConfidenceMedium,
			Next: []string{
				"Find out where the program came from: who wrote the file, and what was downloaded before.",
				"Look at what it opened and reached.",
			},
			Runbook: "docs/detectors/unbacked-exec.md",
		}},
		freshFor: cfg.FreshFor, toolchains: cfg.Toolchains,
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
		writers:  memory.New[writer](cfg.MaxSandboxes, cfg.MaxEntries),
		tools:    memory.New[bool](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings, d.writers, d.tools}
	return d
}

// Detect implements Detector.
func (d *unbackedExec) Detect(e *event.Event, report func(*event.Finding)) {
	if e.Sandbox == nil || e.Process == nil {
		return
	}
	switch p := e.Payload.(type) {
	case *event.FileOpen:
		d.written(e, p)
	case *event.ProcessExec:
		d.executed(e, p, report)
	}
}

// written remembers who opened a file for writing, where that file could be an executable that matters.
func (d *unbackedExec) written(e *event.Event, f *event.FileOpen) {
	const anyExecute = 0o111
	if f.Access&event.AccessWrite == 0 || f.Error != 0 || f.Inode == 0 || neverRun(f.Path) ||
		f.Mode&anyExecute == 0 && !temporary(f.Path) {
		return
	}
	sandbox := e.Sandbox.ID
	w := writer{kind: kindOf(e.Process.Executable), name: e.Process.Name}
	if w.kind != writerOther && !d.believed(sandbox, e.Process.Executable) {
		w.kind = writerOther
	}
	if len(w.name) > longestName {
		w.name = cut(w.name, longestName)
	}
	file := d.writers.File(f.Inode, f.Device)
	if stripsInPlace(e.Process) && d.writers.Get(sandbox, file) != nil {
		return // less of the same file: who wrote it still answers for it
	}
	d.writers.Put(sandbox, file, w)
}

// longestName is what is kept of the name of a program, in bytes.
const longestName = 64

// neverRun tells by its name what builds write by the thousand and nobody executes, so that it does
// not push out what counts. Who does execute such a file is reported as one nobody was seen writing.
func neverRun(path string) bool {
	name := baseName(path)
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "o", "a", "d", "c", "h", "go", "rs", "py", "pyc", "js", "ts", "map", "json", "md", "txt", "html", "css",
		"rmeta", "rlib", "lock", "log", "yml", "yaml", "toml", "xml", "png", "svg":
		return strings.IndexByte(name, '.') >= 0
	}
	return false
}

// kindOf is what a program does by its name, if the program is what its name says.
func kindOf(executable string) writerKind {
	switch {
	case isCompiler(executable):
		return writerCompiler
	case isInstaller(executable):
		return writerInstaller
	}
	return writerOther
}

// provided says that who administers the sandbox answers for the executable.
func (d *unbackedExec) provided(executable string) bool {
	if installed(executable) {
		return true
	}
	for _, dir := range d.toolchains {
		if below(executable, strings.TrimSuffix(dir, "/")) {
			return true
		}
	}
	return false
}

// believed says whether a compiler's or installer's executable may answer for what it writes.
func (d *unbackedExec) believed(sandbox, executable string) bool {
	if known := d.tools.Get(sandbox, d.tools.Key(0, executable)); known != nil {
		return *known
	}
	return d.provided(executable)
}

// executed judges one exec.
func (d *unbackedExec) executed(e *event.Event, x *event.ProcessExec, report func(*event.Finding)) {
	sandbox := e.Sandbox.ID
	var by *writer
	if x.Inode != 0 {
		by = d.writers.Get(sandbox, d.writers.File(x.Inode, x.Device))
	}
	if kindOf(x.Executable) != writerOther {
		d.tools.Put(sandbox, d.tools.Key(0, x.Executable), d.genuine(e, x, by))
	}
	var what, title string
	level := event.Severity(0)
	switch {
	case x.Origin == event.OriginMemfd:
		if runtimeCopy(e.Process, x) {
			return
		}
		what, title = "memfd", " ran from anonymous memory"
	case x.Origin == event.OriginDeleted:
		if runsItselfAgain(e.Process, x) && by == nil {
			return
		}
		what, title = "deleted", " ran from a file without a name"
	case d.fresh(e, x, by):
		what, title, level = "fresh", " ran from a temporary directory", event.SeverityMedium
	default:
		return
	}
	session, call := turn(e.Process)
	key := d.findings.Key(0, session, call, what, x.Executable)
	seen := recall(d.findings, e, key)
	if !seen.seen(&d.rule, e) {
		return
	}
	path := cut(x.Executable, longestPath)
	why := new(explanation).say(reason(what, path, by)).who(e.Process).repeated(seen.count)
	report(&event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Level: level, Count: seen.count,
		Title:       path + title,
		Explanation: why.String(),
		Objects:     []string{path},
		Evidence:    []string{e.UID()},
	})
}

func reason(what, path string, by *writer) string {
	switch what {
	case "memfd":
		return "The program is memory made by memfd_create (" + path + "): it never was a file on any disk."
	case "deleted":
		return "The program's file " + path + " had no name left when it was executed: it cannot be looked at any more."
	}
	if by == nil {
		return "The program " + path + " appeared in a temporary directory while the sandbox was watched, " +
			"and nobody in it was seen writing it."
	}
	return "The program " + path + " lies in a temporary directory and was written in this session by " + by.name +
		", not by a compiler that was here before."
}

// genuine says that a compiler or installer is what its name says: it is older than the sandbox, was
// made by a compiler that is, or lies where only an administrator puts it.
func (d *unbackedExec) genuine(e *event.Event, x *event.ProcessExec, by *writer) bool {
	switch {
	case x.Origin == event.OriginMemfd, x.Origin == event.OriginDeleted:
		return false
	case by != nil:
		return by.kind == writerCompiler || by.kind == writerInstaller && d.provided(x.Executable)
	case d.provided(x.Executable):
		return true
	default:
		return !temporary(x.Executable) && x.Changed.Before(e.Sandbox.Started)
	}
}

// fresh says that the executable lies in a temporary directory and this session brought it there.
func (d *unbackedExec) fresh(e *event.Event, x *event.ProcessExec, by *writer) bool {
	if !temporary(x.Executable) && (x.Origin != event.OriginTmpfs || installed(x.Executable)) {
		return false
	}
	if by != nil {
		return by.kind == writerOther || by.kind == writerInstaller && !dependencies(x.Executable)
	}
	return !x.Changed.IsZero() && x.Changed.After(e.Sandbox.Started) && e.Time.Sub(x.Changed) < d.freshFor
}

// runtimeCopy says that a container runtime runs from a sealed copy of itself, which it makes so that
// the container cannot overwrite the runtime through /proc/self/exe. Its parent must be the installed
// runtime, and what it runs the runtime's own first step inside the container.
func runtimeCopy(p *event.Process, x *event.ProcessExec) bool {
	if p.Parent == nil || !installed(p.Parent.Executable) || len(x.Args) < 2 {
		return false
	}
	switch baseName(p.Parent.Executable) {
	case "runc", "docker-runc":
		return x.Args[1] == "init" && strings.Contains(x.Executable, "runc_cloned:")
	case "crun":
		return strings.Contains(x.Executable, "crun")
	}
	return false
}

// runsItselfAgain says that an installed program started itself anew by /proc/self/exe after an
// upgrade had replaced its file, as daemons and browsers do.
func runsItselfAgain(p *event.Process, x *event.ProcessExec) bool {
	path := strings.TrimSuffix(x.Executable, " (deleted)")
	return p.Parent != nil && installed(path) && strings.TrimSuffix(p.Parent.Executable, " (deleted)") == path
}
