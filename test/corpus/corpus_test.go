// SPDX-License-Identifier: Apache-2.0

package corpus

import (
	"cmp"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/detectors/rules"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

var (
	page = flag.String("page", "", "write the account to this file")
	only = flag.String("only", "", "run only the sessions whose names are in this list")
	// The long form: days of benign work beside each other.
	sandboxes = flag.Int("sandboxes", 0, "so many sandboxes do benign work at once, for -length, after the sessions")
	length    = flag.Duration("length", 30*time.Minute, "how long a day of benign work is")
	// Not "parallel": that name is go test's own, which would keep the value.
	workers = flag.Int("workers", runtime.NumCPU(), "run so many sessions at once, beside those that but wait: more of them make each other late, and some go by the clock")
)

// waiting is how many sessions that but wait run at once beside the others: the longest of them takes as long as the others do.
const waiting = 2

// TestCorpusIsLabelled holds the corpus to its size.
func TestCorpusIsLabelled(t *testing.T) {
	sessions, err := Sessions()
	if err != nil {
		t.Fatal(err)
	}
	attacks := 0
	for _, s := range sessions {
		if s.Attack {
			attacks++
		}
	}
	if benign := len(sessions) - attacks; attacks < 30 || benign < 30 {
		t.Errorf("%d attacks and %d benign sessions: at least 30 each", attacks, benign)
	}
}

// declarations is what all detectors and built-in rules say of themselves, and which of them are rules.
func declarations(t *testing.T) (all []*event.Rule, written map[string]bool) {
	t.Helper()
	sources, err := rules.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(sources...)
	if err != nil {
		t.Fatal(err)
	}
	written = map[string]bool{}
	for _, r := range set.Rules() {
		all = append(all, r.Declaration())
		written[r.Declaration().ID] = true
	}
	cfg := detectors.DefaultConfig()
	cfg.Policy = detectors.Policy{
		Allowed:       func(event.Transport, netip.AddrPort) bool { return true },
		SecretAllowed: func(string, string) bool { return true },
		Observing:     func() bool { return true },
	}
	built, err := detectors.New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range built {
		all = append(all, d.Rule())
	}
	return all, written
}

// TestEveryDetectorIsProven holds every detector to its proof: an attack that it must find and benign work that looks
// like one are executed, a timeline or tests in its file show what it finds, and its declaration, its page and the
// catalogue say all that somebody at night needs to know. Every entry of the catalogue has a detector.
func TestEveryDetectorIsProven(t *testing.T) {
	sessions, err := Sessions()
	if err != nil {
		t.Fatal(err)
	}
	attacked, mistaken := map[string]bool{}, map[string]bool{}
	for i := range sessions {
		for _, rule := range sessions[i].Finds {
			attacked[rule] = true
		}
		for _, rule := range sessions[i].Like {
			mistaken[rule] = true
		}
	}
	catalogue, err := os.ReadFile("../../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 25; n++ {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \|.*\]\(detectors/`, n)).Match(catalogue) {
			t.Errorf("entry %d of the catalogue names no detector", n)
		}
	}
	all, written := declarations(t)
	known := map[string]bool{}
	for _, r := range all {
		known[r.ID] = true
		if !attacked[r.ID] {
			t.Errorf("no session of the corpus attacks what %s looks for", r.ID)
		}
		if !mistaken[r.ID] {
			t.Errorf("no benign session of the corpus looks like what %s looks for", r.ID)
		}
		checkDeclaration(t, r)
		if !regexp.MustCompile(`[\[ ,]` + r.ID + `[\],]`).Match(catalogue) {
			t.Errorf("the catalogue does not know %s", r.ID)
		}
		if _, err := os.Stat("../../detectors/testdata/" + r.ID + ".txt"); err != nil && !written[r.ID] {
			t.Errorf("%s has no timeline", r.ID) // a rule's tests stand in its file, and its package asks for them
		}
	}
	for rule := range attacked {
		if !known[rule] {
			t.Errorf("sessions are said to be found by %s, which is no detector", rule)
		}
	}
}

// checkDeclaration holds a detector to what it must say of itself.
func checkDeclaration(t *testing.T, r *event.Rule) {
	t.Helper()
	for what, text := range map[string]string{
		"title": r.Title, "uuid": r.UUID, "memory bound": r.MemoryBound, "false positives": r.FalsePositives, "runbook": r.Runbook,
		"what to check next": strings.Join(r.Next, " "), "ATT&CK or OWASP ids": strings.Join(append(slices.Clone(r.Attack), r.ASI...), " "),
	} {
		if text == "" {
			t.Errorf("%s does not say: %s", r.ID, what)
		}
	}
	if len(r.Kinds) == 0 || r.Severity == 0 {
		t.Errorf("%s has no severity, or reads nothing", r.ID)
	}
	page, err := os.ReadFile(filepath.Join("../..", r.Runbook))
	if err != nil {
		t.Error(err)
		return
	}
	for _, wanted := range []string{r.UUID, "## What it means", "## What to do", "## What it misses"} {
		if !strings.Contains(string(page), wanted) {
			t.Errorf("%s lacks %q", r.Runbook, wanted)
		}
	}
}

// build makes the binary.
func build(t *testing.T) string {
	t.Helper()
	testenv.RequireRoot(t)
	testenv.RequireEBPF(t)
	binary := filepath.Join(t.TempDir(), "watchglass")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/watchglass/watchglass/cmd/watchglass").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// inWorlds runs so many workers, each in a network of its own, on a goroutine whose thread ends with it.
func inWorlds(t *testing.T, binary string, workers int, run func(worker int, c *Corpus) error) {
	t.Helper()
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			c, err := Open(t.Context(), binary)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := run(worker, c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestKernelFindingExplainsItself has an agent read a key in a call that its user approved, and holds the finding to all
// that somebody needs to know at night.
func TestKernelFindingExplainsItself(t *testing.T) {
	session := &Session{Name: "explains-itself", Attack: true, Script: `
agent '
begin; prompt "show me my key"
decide call_1 approved user
tool call_1 "cat ~/.ssh/id_ed25519 >/dev/null; true"
result call_1 "cat ~/.ssh/id_ed25519 >/dev/null; true"
'`}
	var result Result
	inWorlds(t, build(t), 1, func(_ int, c *Corpus) (err error) {
		result, err = c.Run(t.Context(), session)
		return err
	})
	i := slices.IndexFunc(result.Findings, func(f Finding) bool { return f.Rule == "secret-read" })
	if i < 0 {
		t.Fatalf("the key was read, and found is only %v", told(result.Findings))
	}
	f := &result.Findings[i]
	if f.Reports < 2 || f.Last["watchglass.finding.status"] != "update" {
		t.Errorf("the agent told of the call after it, and the finding was not told anew: %d reports", f.Reports)
	}
	for key, want := range map[string]any{
		"watchglass.finding.prompt": "show me my key", "watchglass.agent.prompt.length": 14.0,
		"gen_ai.tool.call.id": "call_1", "gen_ai.tool.name": "exec_command", "gen_ai.agent.name": "codex",
		"watchglass.tool.command":   "cat ~/.ssh/id_ed25519 >/dev/null; true",
		"watchglass.approval.state": "granted", "watchglass.approval.source": "user",
		"watchglass.finding.confidence": "high", "watchglass.join.confidence": "exact", "process.user.id": 0.0,
		"watchglass.finding.runbook": "docs/detectors/secret-read.md", "watchglass.finding.severity": "high",
	} {
		if got := f.Last[key]; got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	for key, want := range map[string]string{
		"watchglass.finding.process_chain": "codex bash cat", "watchglass.finding.objects": "/.ssh/id_ed25519",
		"watchglass.finding.evidence": "-", "watchglass.finding.next": "Rotate the secret", "watchglass.finding.explanation": "The prompt was: show me my key",
		"gen_ai.conversation.id": "corpus-", "watchglass.finding.title": "cat read ",
	} {
		if got := strings.Trim(fmt.Sprint(f.Last[key]), "[]"); !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %q in it", key, got, want)
		}
	}
}

// TestKernelCorpus runs every session. Each attack must be found by what it names, and nobody may be paged about
// benign work.
func TestKernelCorpus(t *testing.T) {
	sessions, err := Sessions()
	if err != nil {
		t.Fatal(err)
	}
	binary := build(t)
	all := make([]*Result, len(sessions))
	working := max(1, *workers)
	busy, waits := make(chan int, len(sessions)), make(chan int, len(sessions))
	for _, i := range longestFirst(sessions) {
		if sessions[i].Waits {
			waits <- i
		} else {
			busy <- i
		}
	}
	close(busy)
	close(waits)
	inWorlds(t, binary, working+waiting, func(worker int, c *Corpus) error {
		own := busy
		if worker >= working {
			own = waits
		}
		for i := range own {
			if *only != "" && !slices.Contains(strings.Split(*only, ","), sessions[i].Name) {
				continue
			}
			r, err := c.Run(t.Context(), &sessions[i])
			if err != nil {
				t.Error(err)
				continue
			}
			all[i] = &r
		}
		return nil
	})
	var results []Result
	for _, r := range all {
		if r != nil {
			results = append(results, *r)
		}
	}
	judge(t, results)
	days := work(t, binary, sessions)
	if *page != "" {
		if err := os.WriteFile(*page, []byte(Page(results, days, machine())), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// longestFirst is the places of sessions in the order in which they are begun, so that nobody waits for one at the end.
func longestFirst(sessions []Session) []int {
	order := make([]int, len(sessions))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sessions[b].Takes, sessions[a].Takes) })
	return order
}

// work is days of benign work in the long form, which finds what minutes do not. Nobody may be paged, and hardly
// anybody bothered.
func work(t *testing.T, binary string, sessions []Session) []Day {
	t.Helper()
	days := make([]Day, *sandboxes)
	inWorlds(t, binary, *sandboxes, func(worker int, c *Corpus) (err error) {
		days[worker], err = c.Day(t.Context(), sessions, *length, uint64(worker))
		return err
	})
	var hours float64
	medium := 0
	for i := range days {
		d := &days[i]
		hours += d.Took.Hours()
		t.Logf("day %d: %s, %d pieces, %d processes, %d events, %d lost, failed %v", i, d.Took.Round(time.Second), d.Pieces, d.Execs, d.Events, d.Missing, d.Failed)
		if len(d.Failed) > 0 {
			t.Errorf("day %d: the work of %v failed", i, d.Failed)
		}
		if d.Missing*1000 > d.Events {
			t.Errorf("day %d: of %d events %d were lost: quiet must mean that it was seen", i, d.Events, d.Missing)
		}
		for _, f := range d.Findings {
			if f.grave() {
				t.Errorf("day %d: found %s", i, f.String())
			}
			if f.Severity == "medium" {
				medium++
				t.Logf("day %d: found %s", i, f.String())
			}
		}
	}
	if allowed := int(hours / 8); medium > allowed {
		t.Errorf("%d findings of medium severity in %.1f hours of benign work: at most one in 8", medium, hours)
	}
	return days
}

// judge compares what was found with what should have been.
func judge(t *testing.T, results []Result) {
	t.Helper()
	medium := 0
	for _, r := range results {
		for _, f := range r.Findings {
			if slices.Contains(r.Session.Like, f.Rule) && f.Severity != "low" && f.Severity != "info" {
				t.Errorf("%s: %s: mistaken for it: %s", r.Session.Name, r.Session.About, f.String())
			}
		}
		if r.Lacks != "" {
			t.Logf("%s: not run: this machine lacks %s", r.Session.Name, r.Lacks)
			continue
		}
		if missed := r.Session.Missed(r.Findings); len(missed) > 0 {
			t.Errorf("%s: %s: not found by %v; found: %v", r.Session.Name, r.Session.About, missed, told(r.Findings))
		}
		if open := r.Session.Open(r.Findings); len(open) > 0 {
			t.Errorf("%s: %s: %v did not say that it is over; found: %v", r.Session.Name, r.Session.About, open, told(r.Findings))
		}
		for _, f := range r.Findings {
			if r.Session.Attack {
				continue
			}
			if f.grave() {
				t.Errorf("%s: %s: found %s", r.Session.Name, r.Session.About, f.String())
			}
			if f.Severity == "medium" {
				medium++
				t.Logf("%s: found %s", r.Session.Name, f.String())
			}
		}
	}
	if medium > 0 {
		t.Errorf("%d findings of medium severity in benign sessions: at most one in 8 session-hours", medium)
	}
}

// told is findings in a line each.
func told(findings []Finding) (lines []string) {
	for i := range findings {
		lines = append(lines, findings[i].String())
	}
	return lines
}

func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "Linux"
	}
	return fmt.Sprintf("Linux %s", unix.ByteSliceToString(u.Release[:]))
}
