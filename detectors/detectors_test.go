// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

func allowNothing() Policy {
	return Policy{
		SecretAllowed: func(string, string) bool { return false },
		Allowed:       func(_ event.Transport, peer netip.AddrPort) bool { return peer.Addr().IsLoopback() },
		Observing:     func() bool { return false },
	}
}

func mustNew(t testing.TB, cfg Config) []Detector {
	t.Helper()
	cfg.Policy = allowNothing()
	all, err := New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRules holds every rule to what a rule must say, and to having its timeline.
func TestRules(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	attack, asi := regexp.MustCompile(`^T\d{4}(\.\d{3})?$`), regexp.MustCompile(`^ASI(0[1-9]|10)$`)
	seen := map[string]bool{}
	for _, d := range mustNew(t, DefaultConfig()) {
		r := d.Rule()
		if seen[r.ID] || seen[r.UUID] {
			t.Errorf("%s: its id or UUID is another's", r.ID)
		}
		seen[r.ID], seen[r.UUID] = true, true
		if !uuid.MatchString(r.UUID) || r.Version == "" || r.Title == "" || r.Severity == 0 || len(r.Kinds) == 0 ||
			r.MemoryBound == "" || r.FalsePositives == "" || len(r.Next) == 0 || len(r.Attack) == 0 || len(r.ASI) == 0 {
			t.Errorf("%s: incomplete: %+v", r.ID, r)
		}
		for _, id := range r.Attack {
			if !attack.MatchString(id) {
				t.Errorf("%s: %q is no technique", r.ID, id)
			}
		}
		for _, id := range r.ASI {
			if !asi.MatchString(id) {
				t.Errorf("%s: %q is no agentic threat", r.ID, id)
			}
		}
		if r.Runbook != "docs/detectors/"+r.ID+".md" {
			t.Errorf("%s: its runbook is %q", r.ID, r.Runbook)
		}
		if _, err := os.Stat(filepath.Join("testdata", r.ID+".txt")); err != nil {
			t.Errorf("%s: no timeline: %v", r.ID, err)
		}
	}
}

// TestPages holds the head of each page in docs/detectors against its rule; -update writes it.
func TestPages(t *testing.T) {
	pages, err := filepath.Glob("../docs/detectors/*.md")
	if err != nil {
		t.Fatal(err)
	}
	// The pages of rules that are text have a test of their own, in package rules.
	pages = slices.DeleteFunc(pages, func(page string) bool {
		text, err := os.ReadFile(page)
		return err == nil && strings.Contains(string(text), "go test ./detectors/rules -update")
	})
	rules := mustNew(t, DefaultConfig())
	if len(pages) != len(rules) {
		t.Errorf("%d pages for %d detectors", len(pages), len(rules))
	}
	for _, d := range rules {
		file := filepath.Join("..", filepath.FromSlash(d.Rule().Runbook))
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		const end = "<!-- end of the rule -->\n"
		_, rest, ok := strings.Cut(string(text), end)
		if !ok {
			t.Errorf("%s has no line %q", file, end)
			continue
		}
		want := pageHead(d.Rule()) + end + rest
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil { //nolint:gosec // documentation
				t.Fatal(err)
			}
		} else if string(text) != want {
			t.Errorf("the head of %s is not the rule's; go test ./detectors -update writes:\n%s", file, pageHead(d.Rule()))
		}
		for _, heading := range []string{"## What it means", "## What to do", "## What it needs", "## Tuning", "## What it misses"} {
			if !strings.Contains("\n"+rest, "\n"+heading+"\n") {
				t.Errorf("%s has no section %q", file, heading)
			}
		}
	}
}

// pageHead is the rule as the head of its page.
func pageHead(r *event.Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- SPDX-License-Identifier: Apache-2.0 -->\n# %s: %s\n\n", r.ID, strings.ToLower(r.Title[:1])+r.Title[1:])
	b.WriteString("<!-- The rule, written by go test ./detectors -update -->\n\n| | |\n|---|---|\n")
	var techniques, kinds []string
	for _, id := range r.Attack {
		techniques = append(techniques, fmt.Sprintf("[%s](https://attack.mitre.org/techniques/%s/)", id, strings.ReplaceAll(id, ".", "/")))
	}
	for _, k := range r.Kinds {
		kinds = append(kinds, "`"+string(k)+"`")
	}
	for _, row := range [][2]string{
		{"severity", r.Severity.FindingName()},
		{"ATT&CK", strings.Join(techniques, ", ")},
		{"OWASP agentic", strings.Join(r.ASI, ", ")},
		{"reads", strings.Join(kinds, ", ")},
		{"keeps quiet about", r.FalsePositives},
		{"confidence", string((&event.Finding{Rule: r}).Confidence())},
		{"memory", r.MemoryBound},
		{"version", r.Version + ", `" + r.UUID + "`"},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	b.WriteString("\n")
	return b.String()
}

func TestBadConfig(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"detectors.max_sandboxes: 0":        func(c *Config) { c.MaxSandboxes = 0 },
		"detectors.max_entries: -1":         func(c *Config) { c.MaxEntries = -1 },
		"detectors.fresh_for: -1s":          func(c *Config) { c.FreshFor = -time.Second },
		"detectors.max_entries: 1000000000": func(c *Config) { c.MaxEntries = 1e9 },
	} {
		cfg := DefaultConfig()
		cfg.Policy = allowNothing()
		change(&cfg)
		if _, err := New(&cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	cfg := DefaultConfig()
	if _, err := New(&cfg); err == nil {
		t.Error("detectors without a policy were made")
	}
}

// TestToolchains shows that a compiler that came during the session is believed in a configured directory only.
func TestToolchains(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Toolchains = []string{"/home/dev/.rustup/"}
	sandbox := &event.Sandbox{ID: "s", Started: time.Unix(1000, 0)}
	for tool, want := range map[string]int{"/home/dev/.rustup/toolchains/x/bin/rustc": 0, "/home/dev/.rustup2/rustc": 1, "/home/dev/rustc": 1} {
		d, findings, seq := mustNew(t, cfg)[2], 0, uint64(0)
		happen := func(executable string, payload event.Payload) {
			seq++
			p := &event.Process{UID: 1, Executable: executable, Name: baseName(executable)}
			e := &event.Event{Seq: seq, Time: time.Unix(2000, 0), Sandbox: sandbox, Process: p, Payload: payload}
			d.Detect(e, func(*event.Finding) { findings++ })
		}
		happen(tool, &event.ProcessExec{Executable: tool, Inode: 1, Changed: time.Unix(1500, 0)})
		happen(tool, &event.FileOpen{Path: "/tmp/x", Access: event.AccessWrite, Inode: 2})
		happen("/tmp/x", &event.ProcessExec{Executable: "/tmp/x", Inode: 2, Changed: time.Unix(2000, 0)})
		if findings != want {
			t.Errorf("%s: %d findings, want %d", tool, findings, want)
		}
	}
	cfg.Toolchains = []string{"home/dev"}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "detectors.toolchains[0]") {
		t.Errorf("a relative directory: %v", err)
	}
}

// hostile is the events of a sandbox that wants to be expensive: every field as long as it can be, never the same twice.
func hostile(sandbox *event.Sandbox, i int) []*event.Event {
	long := fmt.Sprintf("/tmp/%d-%s", i, strings.Repeat("x\x1b\xff", 1300))
	p := &event.Process{
		UID: event.ProcessID(i + 1), RootUID: event.ProcessID(i + 1), PID: uint32(i + 1), Executable: long, Name: long[5:],
		Args:  []string{long, strings.Repeat("a", 128<<10)},
		Agent: &event.Agent{Name: "codex", CallID: strings.Repeat("c", 4096) + fmt.Sprint(i), SessionID: strings.Repeat("s", 4096)},
	}
	p.Parent = p // a cycle cannot come from the tree; the words must end all the same
	payloads := []event.Payload{
		&event.FileOpen{Path: long, Access: event.AccessRead, Class: event.FileClassSecret, Inode: uint64(i + 1)},
		&event.FileOpen{Path: long + "w", Access: event.AccessWrite, Created: true, Class: event.FileClassSecret, Inode: uint64(i + 1e6)},
		&event.ProcessExec{Executable: long, Args: p.Args, Origin: event.OriginMemfd, Inode: uint64(i + 1e6)},
		&event.ProcessExec{Executable: long + "/ld", Args: p.Args, Inode: uint64(i + 1e6)},
		&event.NetworkConnect{Transport: event.TransportTCP, Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, byte(i >> 8), byte(i), 1}), 9), PeerName: long},
	}
	events := make([]*event.Event, len(payloads))
	for j, payload := range payloads {
		events[j] = &event.Event{Seq: uint64(i*10 + j), Instance: "t", Sandbox: sandbox, Process: p, Payload: payload}
	}
	return events
}

// TestHostileSandbox drives every detector far beyond its bounds and holds its findings and its memory to a size.
func TestHostileSandbox(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxEntries = 16
	all := mustNew(t, cfg)
	sandbox := &event.Sandbox{ID: "s"}
	findings := 0
	for i := range 200 {
		for _, e := range hostile(sandbox, i) {
			for _, d := range all {
				d.Detect(e, func(f *event.Finding) {
					findings++
					if n := len(f.Title) + len(f.Explanation); n > 32<<10 {
						t.Fatalf("%s: a finding of %d bytes", f.Rule.ID, n)
					}
				})
			}
		}
	}
	if findings != 200*4 { // the read, the memfd, the fake linker in /tmp (written by itself), the connection
		t.Errorf("%d findings, want %d", findings, 200*4)
	}
	for id, tables := range map[string]int{"secret-read": 3, "off-policy-connect": 1, "unbacked-exec": 3} {
		for _, d := range all {
			if d.Rule().ID != id {
				continue
			}
			if got := d.Stats().Entries; got != 16*tables {
				t.Errorf("%s: %d entries in %d tables of 16", id, got, tables)
			}
			if d.Stats().Evicted == 0 {
				t.Errorf("%s: no eviction was counted", id)
			}
			d.Forget("s")
			if got := d.Stats().Entries; got != 0 {
				t.Errorf("%s: %d entries of a forgotten sandbox", id, got)
			}
		}
	}
}

// ordinary is events of a build: none is a finding.
func ordinary() map[string]*event.Event {
	sandbox := &event.Sandbox{ID: "s"}
	p := &event.Process{UID: 1, RootUID: 1, PID: 1, Executable: "/usr/bin/gcc", Name: "gcc", Args: []string{"gcc", "-c", "x.c"}}
	made := map[string]event.Payload{
		"open":            &event.FileOpen{Path: "/usr/include/stdio.h", Access: event.AccessRead, Class: event.FileClassSystem, Inode: 7, Mode: 0o100644},
		"write":           &event.FileOpen{Path: "/home/dev/p/x.o", Access: event.AccessWrite, Class: event.FileClassOther, Inode: 8, Mode: 0o100644},
		"writeExecutable": &event.FileOpen{Path: "/home/dev/p/x", Access: event.AccessWrite, Class: event.FileClassOther, Inode: 9, Mode: 0o100755},
		"exec":            &event.ProcessExec{Executable: "/usr/bin/make", Args: []string{"make"}, Origin: event.OriginFile, Inode: 10},
		"execCompiler":    &event.ProcessExec{Executable: "/usr/bin/gcc", Args: []string{"gcc"}, Origin: event.OriginFile, Inode: 11},
		"connect":         &event.NetworkConnect{Transport: event.TransportTCP, Peer: netip.MustParseAddrPort("127.0.0.1:80")},
		"flow":            &event.NetworkFlow{Transport: event.TransportTCP, Peer: netip.MustParseAddrPort("127.0.0.1:80")},
		"exit":            &event.ProcessExit{},
	}
	events := map[string]*event.Event{}
	for name, payload := range made {
		events[name] = &event.Event{Seq: 1, Instance: "t", Sandbox: sandbox, Process: p, Payload: payload}
	}
	return events
}

// TestOrdinaryEventsCostNothing is the budget: an event that is no finding allocates nothing in any detector.
func TestOrdinaryEventsCostNothing(t *testing.T) {
	all := mustNew(t, DefaultConfig())
	report := func(f *event.Finding) { t.Errorf("a finding: %s", f.Title) }
	for name, e := range ordinary() {
		for _, d := range all {
			d.Detect(e, report) // the first may make room
			if n := testing.AllocsPerRun(100, func() { d.Detect(e, report) }); n != 0 {
				t.Errorf("%s: %s: %v allocations", d.Rule().ID, name, n)
			}
		}
	}
}

// BenchmarkOrdinary is what all detectors together cost for an event that is no finding.
func BenchmarkOrdinary(b *testing.B) {
	for name, e := range ordinary() {
		b.Run(name, func(b *testing.B) {
			all := mustNew(b, DefaultConfig())
			report := func(*event.Finding) {}
			b.ReportAllocs()
			for b.Loop() {
				for _, d := range all {
					d.Detect(e, report)
				}
			}
		})
	}
}

// BenchmarkRepeated is what the hundredth read of the same secret costs.
func BenchmarkRepeated(b *testing.B) {
	all := mustNew(b, DefaultConfig())
	e := ordinary()["open"]
	e.Payload = &event.FileOpen{Path: "/etc/shadow", Access: event.AccessRead, Class: event.FileClassSecret, Inode: 7}
	b.ReportAllocs()
	for b.Loop() {
		all[0].Detect(e, func(*event.Finding) {})
	}
}
