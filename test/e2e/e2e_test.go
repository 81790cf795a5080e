// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the watchglass program as people use it: real agents, driven by a scripted model,
// under `watchglass run`. It owns the scenario and the assertions on the program's JSON lines. It must
// not import the program's own packages: attribute names are spelled out here, because a rename that
// breaks those who consume the stream has to break this test too.
//
// The tests run with WATCHGLASS_E2E=1 (make test-e2e). They need root, npm and node, and the first run fetches the
// agents from npm. While an agent runs, it has no network but loopback.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/watchglass/watchglass/internal/testenv"
)

// root is the repository's root, seen from the directory in which the tests of this package run.
const root = "../.."

func TestMain(m *testing.M) {
	if wanted() {
		if err := build(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// wanted says whether the end-to-end tests were asked for.
func wanted() bool { return os.Getenv("WATCHGLASS_E2E") == "1" }

// build makes the program under test.
func build() error {
	path, err := program()
	if err != nil {
		return err
	}
	// Where the clone belongs to another user, git says nothing, and go build would not build.
	command := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./cmd/watchglass")
	command.Dir = root
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build watchglass: %w\n%s", err, output)
	}
	return nil
}

// program is the absolute path of the program under test.
func program() (string, error) {
	path, err := filepath.Abs(filepath.Join(root, "tmp", "watchglass"))
	if err != nil {
		return "", fmt.Errorf("find the program under test: %w", err)
	}
	return path, nil
}

// require skips the test where it was not asked for or cannot run.
func require(t *testing.T) {
	t.Helper()
	testenv.E2E(t)
	testenv.RequireEBPF(t)
	for _, tool := range []string{"npm", "node"} {
		if _, err := exec.LookPath(tool); err != nil {
			testenv.Unable(t, "needs "+tool+" to install and run the agents")
		}
	}
}
