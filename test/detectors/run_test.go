// SPDX-License-Identifier: Apache-2.0

package detectors_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchglass/watchglass/internal/testenv"
)

// build makes the watchglass binary once for all tests; dir is where, removed by TestMain.
func build(dir string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		binary := filepath.Join(dir, "watchglass")
		out, err := exec.Command("go", "build", "-o", binary, "github.com/watchglass/watchglass/cmd/watchglass").CombinedOutput()
		if err != nil {
			return "", errors.New("building watchglass: " + err.Error() + "\n" + string(out))
		}
		return binary, nil
	})
}

// session is one command under "watchglass run".
type session struct {
	// config is the configuration file's text, script what bash runs, in home, which is $HOME.
	config, script, home string
}

// line is one line of the --json file.
type line struct {
	Event      string         `json:"event"`
	Attributes map[string]any `json:"attributes"`
}

// finding is what a test looks at of a finding's last report.
type finding struct {
	rule, severity, status, title, explanation string
	objects                                    []string
	count                                      float64
}

// run executes the session and returns the last state of each finding, by id, in the order of their appearance.
func run(t *testing.T, s session) []finding {
	t.Helper()
	testenv.RequireRoot(t)
	testenv.RequireEBPF(t)
	binary, err := watchglass()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, events := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "events.jsonl")
	if err := os.WriteFile(config, []byte(s.config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "run", "--config", config, "--json", events, "--", "bash", "-ec", s.script)
	cmd.Env = append(os.Environ(), "HOME="+s.home, "TMPDIR="+s.home)
	cmd.Dir = s.home
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("watchglass run: %v\n%s", err, out.String())
	}
	return findings(t, events)
}

func findings(t *testing.T, file string) []finding {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var order []string
	byID, kinds := map[string]finding{}, map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%v in %s", err, lines.Bytes())
		}
		kinds[l.Event]++
		if l.Event != "watchglass.finding" {
			continue
		}
		text := func(key string) string { s, _ := l.Attributes[key].(string); return s }
		id := text("watchglass.finding.id")
		if _, ok := byID[id]; !ok {
			order = append(order, id)
		}
		one := finding{
			rule: text("security_rule.name"), severity: text("watchglass.finding.severity"), status: text("watchglass.finding.status"),
			title: text("watchglass.finding.title"), explanation: text("watchglass.finding.explanation"),
		}
		one.count, _ = l.Attributes["watchglass.finding.count"].(float64)
		objects, _ := l.Attributes["watchglass.finding.objects"].([]any)
		for _, o := range objects {
			s, _ := o.(string)
			one.objects = append(one.objects, s)
		}
		byID[id] = one
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	// Quiet must mean "saw it and said nothing", not "saw nothing".
	if kinds["watchglass.process.exec"] == 0 || kinds["watchglass.file.open"] == 0 {
		t.Fatalf("the session was not watched: %v", kinds)
	}
	if kinds["watchglass.telemetry.loss"] > 0 {
		t.Errorf("events were lost: %v", kinds)
	}
	all := make([]finding, 0, len(order))
	for _, id := range order {
		all = append(all, byID[id])
	}
	return all
}

// expectation is one finding that a session must have.
type expectation struct {
	rule, severity, object string
	count                  float64
}

// expect compares the findings with what was expected: nothing missing, nothing more.
func expect(t *testing.T, got []finding, want ...expectation) {
	t.Helper()
	used := make([]bool, len(got))
next:
	for _, w := range want {
		for i, g := range got {
			if !used[i] && g.rule == w.rule && g.severity == w.severity && strings.Contains(strings.Join(g.objects, "\n"), w.object) &&
				(w.count == 0 || g.count == w.count) {
				used[i] = true
				continue next
			}
		}
		t.Errorf("not found: %+v", w)
	}
	for i, g := range got {
		// These sessions run without a sandbox, which is said of those that take long enough.
		if !used[i] && g.rule != "weak-sandbox" {
			t.Errorf("not expected: %+v", g)
		}
	}
	if t.Failed() {
		t.Logf("all findings: %+v", got)
	}
}
