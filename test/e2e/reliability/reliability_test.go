// SPDX-License-Identifier: Apache-2.0

// Package reliability tests that nothing is lost on the way out without being counted: a real sandboxed
// workload, a real `watchglass collect` with its journal, a real OpenTelemetry Collector as backend, and
// between them what goes wrong in practice.
//
// After each scenario every sequence number that was given out must have arrived or be in a loss event, and
// every finding must have arrived. The short form runs with the end-to-end tests; WATCHGLASS_RELIABILITY=long
// (make bench-reliability) is the long one and writes its figures into docs/reliability.md. It must not import the
// program's own packages: names and the journal's state are spelled out, as for whoever audits it.
package reliability

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/watchglass/watchglass/internal/testenv"
	"github.com/watchglass/watchglass/test/e2e/backend"
)

// root is the repository's root, seen from the directory in which the tests of this package run.
const root = "../../.."

// scale is how long and how often things go wrong.
type scale struct {
	rate              int // opens a second
	outage            time.Duration
	kills             int
	misbehave, diskUp time.Duration
}

// form is long or short.
func form() string {
	if os.Getenv("WATCHGLASS_RELIABILITY") == "long" {
		return "long"
	}
	return "short"
}

func scaleOf() scale {
	if form() == "long" {
		return scale{rate: 20000, outage: 5 * time.Minute, kills: 20, misbehave: time.Minute, diskUp: time.Minute}
	}
	return scale{rate: 20000, outage: 30 * time.Second, kills: 5, misbehave: 10 * time.Second, diskUp: 15 * time.Second}
}

func TestMain(m *testing.M) {
	if os.Getenv(loadVariable) != "" {
		if err := load(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if dir := os.Getenv(figuresVariable); dir != "" {
		if err := writePage(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// stage is what every scenario needs: the two programs and a place.
type stage struct {
	watchglass, otelcol, dir string
	scale                    scale
}

func newStage(t *testing.T) *stage {
	t.Helper()
	testenv.E2E(t)
	testenv.RequireEBPF(t)
	s := &stage{dir: t.TempDir(), scale: scaleOf()}
	var err, buildErr error
	s.otelcol, err = backend.Build(root)
	s.watchglass, buildErr = buildProgram()
	if err := errors.Join(err, buildErr); err != nil {
		t.Fatal(err)
	}
	return s
}

// buildProgram makes the program under test.
func buildProgram() (string, error) {
	path, err := filepath.Abs(filepath.Join(root, "tmp", "watchglass-reliability"))
	if err != nil {
		return "", err
	}
	command := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./cmd/watchglass")
	command.Dir = root
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build watchglass: %w\n%s", err, output)
	}
	return path, nil
}
