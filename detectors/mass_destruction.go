// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// The limits of what is normal.
const (
	// mostRemoved is how many names of others one tool call may remove within removalWindow.
	mostRemoved   = 300
	removalWindow = time.Minute
	// ownNames is how many names of the session's own are remembered for each entry of the configuration: work makes
	// many more files than findings.
	ownNames = 16
)

// massDestruction reports that many files that the session did not make are removed at once, and that a repository's
// history is.
type massDestruction struct {
	remembering

	findings *memory.Memory[repeats]
	// own is the names that the sandbox made itself: it may remove them. removals is by turn.
	own      *memory.Memory[struct{}]
	removals *memory.Memory[removals]
}

// removals counts what one turn removed since began.
type removals struct {
	began time.Time
	count int
}

func newMassDestruction(cfg *Config) *massDestruction {
	d := &massDestruction{
		remembering: remembering{rule: event.Rule{
			ID: "mass-destruction", UUID: "4c8a4b53-04a7-4a38-9a2f-6c1d0e5f9a26", Version: "1",
			Title:    "Files were removed in bulk",
			Severity: event.SeverityHigh,
			Attack:   []string{"T1485"}, ASI: []string{"ASI02", "ASI08"},
			Kinds: []event.Kind{event.KindFileOpen, event.KindFileCreate, event.KindFileRename, event.KindFileDelete},
			MemoryBound: "per sandbox max_entries findings and turns, and 16 times as many names of its own, at most 128 bytes each; " +
				"max_sandboxes sandboxes; least recently used first; findings and turns go with their session, names with the " +
				"sandbox: what one session made another may remove",
			FalsePositives: "names that the session made itself; build output, caches, dependencies, temporary directories; " +
				"what git removes, which it can bring back; fewer than 300 a minute and tool call; failures",
			Confidence: event.ConfidenceMedium,
			Next: []string{
				"Compare with the last commit or backup: what is missing that nobody can build again?",
				"Stop the session before it goes on.",
			},
			Runbook: "docs/detectors/mass-destruction.md",
		}},
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
		own:      memory.New[struct{}](cfg.MaxSandboxes, ownNames*cfg.MaxEntries),
		removals: memory.New[removals](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings, d.own, d.removals}
	return d
}

// Detect implements Detector.
func (d *massDestruction) Detect(e *event.Event, report func(*event.Finding)) {
	if e.Sandbox == nil {
		return
	}
	switch p := e.Payload.(type) {
	case *event.FileOpen:
		if p.Created {
			d.made(e, p.Path)
		}
	case *event.FileChange:
		if p.Error != 0 {
			return
		}
		switch p.Operation {
		case event.FileMkdir, event.FileMknod:
			d.made(e, p.Path)
		case event.FileRenamed:
			if d.its(e, p.Path) {
				d.made(e, p.Target)
			}
		case event.FileUnlink, event.FileRmdir:
			d.removed(e, p, report)
		case event.FileLinked, event.FileSymlink, event.FileTruncate, event.FileChmod, event.FileChown:
		}
	}
}

func (d *massDestruction) made(e *event.Event, path string) {
	d.own.Put(e.Sandbox.ID, d.own.Key(0, path), struct{}{})
}

func (d *massDestruction) its(e *event.Event, path string) bool {
	return d.own.Get(e.Sandbox.ID, d.own.Key(0, path)) != nil
}

func (d *massDestruction) removed(e *event.Event, p *event.FileChange, report func(*event.Finding)) {
	if e.Process == nil || p.Class == event.FileClassTmp || p.Class == event.FileClassProc || d.its(e, p.Path) {
		return
	}
	session, call := turn(e.Process)
	if installed(e.Process.Executable) && strings.HasPrefix(program(e.Process), "git") {
		return // it removes what is left of a failed clone, and files that it can bring back
	}
	if repository, ok := repositoryOf(p.Path); ok {
		d.report(e, d.findings.Key(1, session, call, repository), report,
			program(e.Process)+" removed the history of the repository "+cut(repository, longestPath), repository)
		return
	}
	if disposable(p.Path) {
		return
	}
	key := d.removals.Key(0, session, call)
	r := d.removals.Get(e.Sandbox.ID, key)
	if r == nil || e.Time.Sub(r.began) > removalWindow {
		r = d.removals.Put(e.Sandbox.ID, key, removals{began: e.Time})
		give(d.removals, e, key)
	}
	if r.count++; r.count%mostRemoved == 0 {
		d.report(e, d.findings.Key(2, session, call), report,
			program(e.Process)+" and what ran with it removed "+strconv.Itoa(r.count)+" files within "+
				e.Time.Sub(r.began).Round(time.Millisecond).String()+", the last "+cut(p.Path, longestPath), p.Path)
	}
}

func (d *massDestruction) report(e *event.Event, key uint64, report func(*event.Finding), title, object string) {
	seen := recall(d.findings, e, key)
	if !seen.seen(&d.rule, e) {
		return
	}
	report(&event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Count: seen.count, Title: title,
		Explanation: new(explanation).say(title, ". The session had not made them.").who(e.Process).repeated(seen.count).String(),
		Objects:     []string{cut(object, longestPath)},
		Evidence:    []string{e.UID()},
	})
}

// repositoryOf is the repository whose history goes with a name: its HEAD, or its objects.
func repositoryOf(path string) (string, bool) {
	for _, name := range []string{"/.git/HEAD", "/.git/objects"} {
		if repository, ok := strings.CutSuffix(path, name); ok && !disposable(repository+"/") {
			return repository, true
		}
	}
	return "", false
}

// disposable says that a path lies where builds and package managers put what can be made again.
func disposable(path string) bool {
	for element := range strings.SplitSeq(path, "/") {
		switch element {
		case "node_modules", "target", "dist", "build", "out", "bin", "obj", ".cache", ".next", ".venv", "venv", "__pycache__",
			".pytest_cache", ".tox", ".gradle", "coverage", "vendor", "go-build", ".npm", ".cargo", "testdata", ".git":
			return true
		}
	}
	return strings.Contains(path, "/pkg/mod/")
}
