// SPDX-License-Identifier: Apache-2.0

package corpus

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/watchglass/watchglass/policy"
)

// longest is how long one session may take.
const longest = 2 * time.Minute

// configuration is the policy of every session: what a team would write. The machine's resolvers are allowed, though
// no packet can reach them from here.
func configuration(s *Session) string {
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		text = nil
	}
	resolvers, err := json.Marshal(policy.Resolvers(string(text)))
	if err != nil {
		resolvers = []byte("[]")
	}
	detectors := ""
	if s.Detectors != "" {
		detectors = "detectors: " + s.Detectors + "\n"
	}
	return fmt.Sprintf("policy:\n  network:\n    allow: [\"127.0.0.0/8\", \"203.0.113.11/32\"]\n    resolvers: %s\n"+
		"sandboxes:\n  usage_interval: 2s\nclaims:\n  otlp:\n    content: {prompts: true}\n%s", resolvers, detectors)
}

// Finding is one finding of a session: its first report.
type Finding struct {
	Rule, Severity, Title string
	// After is the time from the start of the session.
	After time.Duration
	// Last is the attributes of its last report, Reports how many there were.
	Last    map[string]any
	Reports int
}

// Result is how a session ended.
type Result struct {
	Session  *Session
	Findings []Finding
	Took     time.Duration
	// Lacks is the command for want of which it did not run; "" when it ran.
	Lacks string
}

// Corpus runs sessions: Open, then Run for each, then Close, all on one goroutine.
type Corpus struct {
	binary string
	world  *world
}

// Open makes the world in which sessions run. The calling goroutine must be one that ends with it: see
// loopback.Enter.
func Open(ctx context.Context, binary string) (*Corpus, error) {
	w, err := enter(ctx)
	if err != nil {
		return nil, err
	}
	return &Corpus{binary: binary, world: w}, nil
}

// Close gives back what Open made.
func (c *Corpus) Close() { c.world.leave() }

// Run runs a session and reads what was found.
func (c *Corpus) Run(ctx context.Context, s *Session) (Result, error) {
	result := Result{Session: s}
	if result.Lacks = s.Lacks(); result.Lacks != "" {
		return result, nil
	}
	dir, err := home(assetFiles)
	if dir != "" {
		defer func() { _ = os.RemoveAll(dir) }()
	}
	if err != nil {
		return result, err
	}
	output, err := os.MkdirTemp(c.world.dir, "session-")
	if err != nil {
		return result, err
	}
	if err := commit(ctx, dir); err != nil {
		return result, fmt.Errorf("session %s: %w", s.Name, err)
	}
	for range s.Learns {
		if err := c.execute(ctx, s, place{dir, output, "REHEARSAL=1"}); err != nil {
			return result, fmt.Errorf("session %s, before: %w", s.Name, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(output, "events.jsonl")); err != nil {
		return result, err
	}
	started := time.Now()
	if err := c.execute(ctx, s, place{dir, output, "REHEARSAL="}); err != nil {
		return result, fmt.Errorf("session %s: %w", s.Name, err)
	}
	result.Took = time.Since(started)
	f, err := os.Open(filepath.Join(output, "events.jsonl"))
	if err != nil {
		return result, err
	}
	defer f.Close() //nolint:errcheck // only read
	told, err := read(f)
	switch result.Findings = told.findings; {
	case err != nil:
		return result, fmt.Errorf("session %s: %w", s.Name, err)
	case told.lost != "": // quiet must mean "saw it and said nothing"
		return result, fmt.Errorf("session %s: events were lost: %s", s.Name, told.lost)
	case told.execs == 0:
		return result, fmt.Errorf("session %s was not watched", s.Name)
	}
	return result, nil
}

// place is where a session runs: its home directory, where its output goes, and a variable of its environment.
type place struct{ dir, output, variable string }

// commit makes the project a repository.
func commit(ctx context.Context, dir string) error {
	work := filepath.Join(dir, "work")
	for _, args := range [][]string{
		{"init", "-q"},
		{"config", "user.name", "dev"},
		{"config", "user.email", "dev@example.com"},
		{"add", "main.go", "go.mod", "AGENTS.md", "assets"},
		{"commit", "-qm", "first"},
	} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir, cmd.Env = work, append(os.Environ(), "HOME="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

func (c *Corpus) execute(ctx context.Context, s *Session, at place) error {
	dir, output := at.dir, at.output
	first, err := prelude()
	if err != nil {
		return err
	}
	script, settings := filepath.Join(output, "session.sh"), filepath.Join(output, "config.yaml")
	if err := errors.Join(os.WriteFile(script, []byte(first+s.Script), 0o600), os.WriteFile(settings, []byte(configuration(s)), 0o600)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	args := []string{"--config", settings, "--json", filepath.Join(output, "events.jsonl")}
	if s.Learns > 0 {
		args = append(args, "--baselines", filepath.Join(output, "baselines"))
	}
	for _, flag := range s.Flags {
		args = append(args, strings.ReplaceAll(flag, "$HOME", dir))
	}
	cmd := c.watch(ctx, dir, append(args, "--", "bash", script))
	cmd.Env = append(cmd.Env, at.variable)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// watch is watchglass run with these arguments, in a developer's home directory.
func (c *Corpus) watch(ctx context.Context, dir string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.binary, append([]string{"run", "--quiet"}, args...)...)
	cmd.Dir = filepath.Join(dir, "work")
	cmd.Env = append(os.Environ(), "HOME="+dir, "WORK="+cmd.Dir, "TOOLS="+c.world.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// line is what is read of a line of the --json file.
type line struct {
	Time       time.Time      `json:"time"`
	Event      string         `json:"event"`
	Attributes map[string]any `json:"attributes"`
}

// account is what a session told.
type account struct {
	// findings is every finding, as it was first reported and last.
	findings []Finding
	// events and execs is how many there were, missing how many were lost, lost the first that says so.
	events, execs, missing int
	lost                   string
}

// read reads what a session told, as JSON lines.
func read(from io.Reader) (account, error) {
	var told account
	var start time.Time
	seen := map[string]int{}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return told, fmt.Errorf("%w in %s", err, lines.Bytes())
		}
		told.events++
		if start.IsZero() {
			start = l.Time
		}
		switch l.Event {
		case "watchglass.telemetry.loss":
			n, _ := l.Attributes["watchglass.loss.count"].(float64)
			if told.missing += int(n); told.lost == "" {
				told.lost = lines.Text()
			}
		case "watchglass.process.exec":
			told.execs++
		case "watchglass.finding":
			told.found(&l, start, seen)
		}
	}
	return told, lines.Err()
}

func (a *account) found(l *line, start time.Time, seen map[string]int) {
	text := func(key string) string { s, _ := l.Attributes[key].(string); return s }
	id := text("watchglass.finding.id")
	at, again := seen[id]
	if !again {
		at = len(a.findings)
		seen[id] = at
		a.findings = append(a.findings, Finding{
			Rule: text("security_rule.name"), Severity: text("watchglass.finding.severity"),
			Title: text("watchglass.finding.title"), After: max(0, l.Time.Sub(start)),
		})
	}
	a.findings[at].Last = l.Attributes
	a.findings[at].Reports++
}

// grave says whether somebody would be paged.
func (f *Finding) grave() bool { return f.Severity == "high" || f.Severity == "critical" }

// Over says whether the last report was that it is over.
func (f *Finding) Over() bool { return f.Last["watchglass.finding.status"] == "resolved" }

// String is "high secret-read: cat read …".
func (f *Finding) String() string {
	return strings.Join([]string{f.Severity, f.Rule + ":", f.Title}, " ")
}
