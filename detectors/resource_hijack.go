// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// The limits of what is normal, and of what is remembered.
const (
	// samplesKept is how many processor times of one program are remembered, samplesNeeded how many of them say what
	// is usual for it.
	samplesKept, samplesNeeded = 128, 20
	// classesKept is how many programs are told apart in a sandbox.
	classesKept = 64
	// aliveKept is how many builds and tests are followed at once in a sandbox.
	aliveKept = 64
	// saturated is from which part of one processor on a sandbox counts as busy.
	saturated = 0.8
	// percentile is in hundredths; headroom is how many times what is usual is too much.
	percentile, headroom = 99, 2
)

// resourceHijack reports processor time that no build or test accounts for: of a process at its end, and of a sandbox
// while it goes on.
type resourceHijack struct {
	remembering

	floor time.Duration
	// findings is what was reported, classes what programs usually use, load how busy each sandbox is.
	findings *memory.Memory[repeats]
	classes  *memory.Memory[usual]
	load     *memory.Memory[load]
}

// usual is the last processor times of one program.
type usual struct {
	times []time.Duration
	next  int
}

// demand is the processor time that a sandbox had, and for how long some of it stood still for want of more: on a busy
// machine a miner gets little, and wants as much as ever.
type demand struct{ cpu, waited time.Duration }

func (d demand) since(before demand) demand {
	return demand{d.cpu - before.cpu, max(0, d.waited-before.waited)}
}

// load is how busy a sandbox is.
type load struct {
	// since is when it began to be busy with nothing that is known, used what it had used then.
	since    time.Time
	used     demand
	last     time.Time
	lastUsed demand
	measured bool
	// told is the title of what was found and goes on; "" for nothing.
	told string
	// alive is the builds and tests that run.
	alive []event.ProcessID
}

func newResourceHijack(cfg *Config) *resourceHijack {
	d := &resourceHijack{
		remembering: remembering{rule: event.Rule{
			ID: "resource-hijack", UUID: "b1c0f1d6-5f0e-4c55-8a35-2e8c7b9f4d21", Version: "1",
			Title:    "Much processor time that no build or test accounts for",
			Severity: event.SeverityMedium,
			Attack:   []string{"T1496"}, ASI: []string{"ASI10"},
			Kinds: []event.Kind{event.KindProcessExec, event.KindProcessExit, event.KindResourceUsage},
			MemoryBound: "per sandbox max_entries findings, the last 128 processor times of 64 programs, and 64 builds, at most " +
				"80 KiB; max_sandboxes sandboxes; least recently used first; a finding goes with the session that made it last, what " +
				"is usual of programs and how busy it is with the sandbox: no session says that",
			FalsePositives: "compilers, builds, test runners and package managers that the system or the project installs, and " +
				"all that they start; less than detectors.saturation_floor of one process; less than twice what is usual for " +
				"the program: the 99th percentile of its last 128 times, once there are 20; what is too much is not learnt",
			Confidence: event.ConfidenceMedium,
			Next: []string{
				"Look at the program: where it came from, and what it connects to.",
				"Stop the session if the time is no work of yours.",
			},
			Runbook: "docs/detectors/resource-hijack.md",
		}},
		floor:    cfg.SaturationFloor,
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
		classes:  memory.New[usual](cfg.MaxSandboxes, classesKept),
		load:     memory.New[load](cfg.MaxSandboxes, 1),
	}
	d.memories = []memories{d.findings, d.classes, d.load}
	return d
}

// Detect implements Detector.
func (d *resourceHijack) Detect(e *event.Event, report func(*event.Finding)) {
	if e.Sandbox == nil {
		return
	}
	switch p := e.Payload.(type) {
	case *event.ProcessExec:
		if e.Process != nil && computes(e.Process) {
			d.began(e)
		}
	case *event.ProcessExit:
		if e.Process != nil {
			d.ended(e, p, report)
		}
	case *event.ResourceUsage:
		if p.CPU != nil {
			now := demand{cpu: p.CPU.Total}
			if p.Pressure.CPU != nil {
				now.waited = p.Pressure.CPU.Some
			}
			d.measured(e, now, report)
		}
	}
}

func (d *resourceHijack) loadOf(e *event.Event) *load {
	key := d.load.Key(0)
	if l := d.load.Get(e.Sandbox.ID, key); l != nil {
		return l
	}
	return d.load.Put(e.Sandbox.ID, key, load{})
}

func (d *resourceHijack) began(e *event.Event) {
	l := d.loadOf(e)
	if slices.Contains(l.alive, e.Process.UID) {
		return
	}
	if len(l.alive) >= aliveKept {
		l.alive = slices.Delete(l.alive, 0, 1)
	}
	l.alive = append(l.alive, e.Process.UID)
	l.since = time.Time{}
}

// ended looks at what a process used in its life.
func (d *resourceHijack) ended(e *event.Event, x *event.ProcessExit, report func(*event.Finding)) {
	l := d.loadOf(e)
	l.alive = slices.DeleteFunc(l.alive, func(uid event.ProcessID) bool { return uid == e.Process.UID })
	if x.Usage == nil || computes(e.Process) {
		return
	}
	used := x.Usage.User + x.Usage.System
	key := d.classes.Key(0, cut(program(e.Process), longestCommand))
	class := d.classes.Get(e.Sandbox.ID, key)
	if class == nil {
		class = d.classes.Put(e.Sandbox.ID, key, usual{})
	}
	if used < d.floor || used < headroom*class.most() {
		class.add(used)
		return // what is too much is not learnt
	}
	why := "The floor is " + d.floor.String() + "; what is usual for the program is not known yet."
	if len(class.times) >= samplesNeeded {
		why = "99 of 100 times it uses no more than " + class.most().Round(time.Millisecond).String() + "; the floor is " + d.floor.String() + "."
	}
	level := event.SeverityLow
	if !installed(e.Process.Executable) {
		level = event.SeverityMedium
	}
	d.report(e, finding{
		key: d.findings.Key(1, program(e.Process)), level: level, why: why, object: cut(e.Process.Executable, longestPath),
		title: program(e.Process) + " used " + used.Round(time.Millisecond).String() + " of processor time within " +
			x.Duration.Round(time.Millisecond).String() + ", outside of builds and tests",
	}, report)
}

// measured looks at what the whole sandbox used since it was measured last.
func (d *resourceHijack) measured(e *event.Event, used demand, report func(*event.Finding)) {
	l := d.loadOf(e)
	before, lastUsed, known := l.last, l.lastUsed, l.measured
	l.last, l.lastUsed, l.measured = e.Time, used, true
	passed := e.Time.Sub(before)
	if !known || passed <= 0 || used.cpu < lastUsed.cpu {
		l.since = time.Time{}
		return
	}
	since := used.since(lastUsed)
	if busy := float64(since.cpu+since.waited) >= saturated*float64(passed); !busy || len(l.alive) > 0 {
		d.eased(e, l, report)
		return
	}
	if l.since.IsZero() {
		l.since, l.used = before, lastUsed
	}
	lasted := e.Time.Sub(l.since)
	if lasted < d.floor {
		return
	}
	total := used.since(l.used)
	processors := strconv.FormatFloat(float64(total.cpu)/float64(lasted), 'f', 1, 64)
	why := "The floor is " + d.floor.String() + "."
	if total.waited > 0 {
		why += " For " + total.waited.Round(time.Second).String() + " of it some processes waited for a processor: they want more than they got."
	}
	l.told = "sandbox " + cut(e.Sandbox.Name, longestCommand) + " has kept " + processors + " processors busy for " +
		lasted.Round(time.Second).String() + ", without a build or test"
	d.report(e, finding{
		key: d.findings.Key(2), level: event.SeverityLow, object: cut(e.Sandbox.Name, longestCommand), why: why, title: l.told,
	}, report)
}

// eased notes that a sandbox is not busy, or busy with a build, and says so where it was reported.
func (d *resourceHijack) eased(e *event.Event, l *load, report func(*event.Finding)) {
	l.since = time.Time{}
	if l.told == "" {
		return
	}
	title, key := l.told, d.findings.Key(2)
	l.told = ""
	seen := d.findings.Get(e.Sandbox.ID, key)
	if seen == nil {
		return
	}
	f := &event.Finding{
		ID: seen.id, Rule: &d.rule, State: event.FindingResolved, Level: event.SeverityLow, Count: seen.count, Title: title,
		Explanation: "It is over: " + title + ".", Objects: []string{cut(e.Sandbox.Name, longestCommand)}, Evidence: []string{e.UID()},
	}
	d.findings.Drop(e.Sandbox.ID, key)
	report(f)
}

// finding is what is to be reported, if it was not lately.
type finding struct {
	key                uint64
	level              event.Severity
	title, why, object string
}

func (d *resourceHijack) report(e *event.Event, f finding, report func(*event.Finding)) {
	seen := recall(d.findings, e, f.key)
	if !seen.seen(&d.rule, e) {
		return
	}
	report(&event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Level: f.level, Count: seen.count, Title: f.title,
		Explanation: new(explanation).say(f.title, ". ", f.why).who(e.Process).repeated(seen.count).String(),
		Objects:     []string{f.object}, Evidence: []string{e.UID()},
	})
}

// most is the 99th percentile of what is remembered; 0 while that is too little to tell.
func (u *usual) most() time.Duration {
	if len(u.times) < samplesNeeded {
		return 0
	}
	sorted := slices.Sorted(slices.Values(u.times))
	return sorted[(len(sorted)*percentile+99)/100-1]
}

func (u *usual) add(used time.Duration) {
	if len(u.times) < samplesKept {
		u.times = append(u.times, used)
		return
	}
	u.times[u.next] = used
	u.next = (u.next + 1) % samplesKept
}

// computes says that a process is a compiler, a build, a test or a package manager that the system or the project
// installed, or that one of these started it.
func computes(p *event.Process) bool {
	const mostAncestors = 16
	for i := 0; p != nil && i < mostAncestors; p, i = p.Parent, i+1 {
		file := p.Executable
		if isInterpreter(program(p)) {
			if s := script(p); s != "" {
				file = s
			} else {
				file = moduleOf(p, file)
			}
		}
		if (installed(p.Executable) || dependencies(file)) && (isCompiler(file) || isBuild(file)) {
			return true
		}
	}
	return false
}

// moduleOf is the module that an interpreter runs, as python3 -m pytest does.
func moduleOf(p *event.Process, otherwise string) string {
	for i, arg := range p.Args {
		if arg == "-m" && i+1 < len(p.Args) {
			return p.Args[i+1]
		}
	}
	return otherwise
}

// isBuild says that building, testing or installing is what the tool is for.
func isBuild(file string) bool {
	switch strings.TrimSuffix(toolName(file), ".js") {
	case "make", "gmake", "ninja", "cmake", "meson", "bazel", "buck2", "gradle", "gradlew", "mvn", "sbt", "ant",
		"pytest", "py.test", "tox", "nox", "unittest", "jest", "vitest", "mocha", "karma", "playwright", "cypress", "rspec", "phpunit", "ctest",
		"npm", "npm-cli", "npx", "npx-cli", "pnpm", "yarn", "bun", "pip", "pip3", "uv", "poetry", "bundle", "gem", "composer",
		"tsc", "webpack", "rollup", "vite", "esbuild", "turbo", "nx", "next", "eslint", "prettier", "mypy", "ruff", "golangci-lint",
		"javac", "kotlinc", "scalac", "dotnet", "msbuild", "xcodebuild", "docker", "buildah", "dpkg", "apt-get", "apt", "rpmbuild":
		return true
	}
	return false
}
