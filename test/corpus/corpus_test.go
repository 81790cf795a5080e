// SPDX-License-Identifier: Apache-2.0

package corpus

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/internal/testenv"
)

var (
	page = flag.String("page", "", "write the account to this file")
	only = flag.String("only", "", "run only the sessions whose names are in this list")
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

// TestKernelCorpus runs every session. Each attack must be found by what it names, and nobody may be paged about
// benign work.
func TestKernelCorpus(t *testing.T) {
	testenv.RequireRoot(t)
	testenv.RequireEBPF(t)
	binary := filepath.Join(t.TempDir(), "watchglass")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/watchglass/watchglass/cmd/watchglass").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	sessions, err := Sessions()
	if err != nil {
		t.Fatal(err)
	}
	var results []Result
	done := make(chan error)
	// A goroutine of its own, whose thread ends with it: it is in another network namespace.
	go func() {
		done <- func() error {
			c, err := Open(t.Context(), binary)
			if err != nil {
				return err
			}
			defer c.Close()
			for i := range sessions {
				if *only != "" && !strings.Contains(*only, sessions[i].Name) {
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
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	medium := 0
	for _, r := range results {
		if r.Lacks != "" {
			t.Logf("%s: not run: this machine lacks %s", r.Session.Name, r.Lacks)
			continue
		}
		if missed := r.Session.Missed(r.Findings); len(missed) > 0 {
			t.Errorf("%s: %s: not found by %v; found: %v", r.Session.Name, r.Session.About, missed, r.Findings)
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
	if *page != "" {
		if err := os.WriteFile(*page, []byte(Page(results, machine())), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "Linux"
	}
	return fmt.Sprintf("Linux %s", unix.ByteSliceToString(u.Release[:]))
}
