// SPDX-License-Identifier: Apache-2.0

package corpus

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/detectors/rules"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

var (
	page = flag.String("page", "", "write the account to this file")
	only = flag.String("only", "", "run only the sessions whose names are in this list")
	keep = flag.String("keep", "", "keep the results in this file, beside those of other sessions that it holds, so that the corpus can be run in parts")
)

// TestCorpusIsLabelled holds the corpus to its size, and to detectors that there are.
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
		for _, rule := range s.Finds {
			pages, err := filepath.Glob("../../docs/detectors/*.md")
			if err != nil || len(pages) == 0 {
				t.Fatal("no pages of detectors")
			}
			if !slices.ContainsFunc(pages, func(p string) bool {
				text, err := os.ReadFile(p)
				return err == nil && strings.Contains(string(text), rule)
			}) {
				t.Errorf("%s: no page knows a detector %s", s.Name, rule)
			}
		}
	}
	if benign := len(sessions) - attacks; attacks < 30 || benign < 30 {
		t.Errorf("%d attacks and %d benign sessions: at least 30 each", attacks, benign)
	}
}

// TestEveryDetectorIsAttacked holds the corpus to every detector: one that no attack is executed for may find nothing, and
// one that no benign work looks like to may find everything.
func TestEveryDetectorIsAttacked(t *testing.T) {
	sessions, err := Sessions()
	if err != nil {
		t.Fatal(err)
	}
	attacked := map[string]bool{
		// What is usual is learnt over many sessions: package detectors and the end-to-end tests show these.
		"burst": true, "first-seen": true, "beaconing": true, "baselines-agree": true,
	}
	mistaken := maps.Clone(attacked)
	for i := range sessions {
		for _, rule := range sessions[i].Finds {
			attacked[rule] = true
		}
		for _, rule := range sessions[i].Like {
			mistaken[rule] = true
		}
	}
	sources, err := rules.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(sources...)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range set.Rules() {
		ids = append(ids, r.Declaration().ID)
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
		ids = append(ids, d.Rule().ID)
	}
	for _, id := range ids {
		if !attacked[id] {
			t.Errorf("no session of the corpus attacks what %s looks for", id)
		}
		if !mistaken[id] {
			t.Errorf("no benign session of the corpus looks like what %s looks for", id)
		}
	}
}

// inWorld runs what needs the corpus's network, on a goroutine whose thread ends with it.
func inWorld(t *testing.T, run func(c *Corpus) error) {
	t.Helper()
	testenv.RequireRoot(t)
	testenv.RequireEBPF(t)
	binary := filepath.Join(t.TempDir(), "watchglass")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/watchglass/watchglass/cmd/watchglass").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	done := make(chan error)
	go func() {
		done <- func() error {
			c, err := Open(t.Context(), binary)
			if err != nil {
				return err
			}
			defer c.Close()
			return run(c)
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
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
	inWorld(t, func(c *Corpus) (err error) {
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
	var results []Result
	inWorld(t, func(c *Corpus) error {
		for i := range sessions {
			if *only != "" && !slices.Contains(strings.Split(*only, ","), sessions[i].Name) {
				continue
			}
			r, err := c.Run(t.Context(), &sessions[i])
			if err != nil {
				t.Error(err)
				continue
			}
			results = append(results, r)
		}
		return nil
	})
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
	if *keep != "" {
		var err error
		if results, err = merge(*keep, results); err != nil {
			t.Fatal(err)
		}
	}
	if *page != "" {
		if err := os.WriteFile(*page, []byte(Page(results, machine())), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// told is findings in a line each.
func told(findings []Finding) (lines []string) {
	for i := range findings {
		lines = append(lines, findings[i].String())
	}
	return lines
}

// merge puts results beside those in a file, in the place of older ones of the same sessions, and is all of them.
func merge(file string, results []Result) ([]Result, error) {
	var all []Result
	switch text, err := os.ReadFile(file); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(text, &all); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, r := range results {
		same := func(old Result) bool {
			return old.Session.Name == r.Session.Name && old.Session.Attack == r.Session.Attack
		}
		all = append(slices.DeleteFunc(all, same), r)
	}
	slices.SortStableFunc(all, func(a, b Result) int { return strings.Compare(a.Session.Name, b.Session.Name) })
	text, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return all, os.WriteFile(file, text, 0o600)
}

func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "Linux"
	}
	return fmt.Sprintf("Linux %s", unix.ByteSliceToString(u.Release[:]))
}
