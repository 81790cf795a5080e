// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/internal/testenv"
)

// changesVariable has TestHelperCredentials change who it acts as.
const changesVariable = "WATCHGLASS_TEST_CREDENTIALS"

// TestHelperCredentials is no test: it changes its ids and capabilities in every way that there is a call for.
func TestHelperCredentials(t *testing.T) {
	if os.Getenv(changesVariable) == "" {
		t.Skip("it is run by TestKernelRunCredentials")
	}
	change := map[string]func() error{
		"setgid":    func() error { return unix.Setgid(4321) },
		"setuid":    func() error { return unix.Setuid(1234) },
		"setreuid":  func() error { return unix.Setreuid(-1, 1234) },
		"setresuid": func() error { return unix.Setresuid(1, 2, 3) },
		"and back":  func() error { return errors.Join(unix.Setresuid(-1, 1234, -1), unix.Setresuid(-1, 0, -1)) },
		"refused": func() error {
			err := unix.Setuid(1234)
			if unix.Setuid(0) == nil {
				err = errors.New("it became root again")
			}
			return err
		},
	}[os.Getenv(changesVariable)]
	if err := change(); err != nil {
		t.Fatal(err)
	}
}

// credentialChanges is what is told of changes of who the processes of a program act as, but by execs.
func credentialChanges(list []line, program string) []string {
	var changes []string
	for _, l := range list {
		path, _ := l.Attributes["process.executable.path"].(string)
		if l.Event != "watchglass.process.credentials" || filepath.Base(path) != program || l.Attributes["watchglass.credentials.cause"] == "exec" {
			continue
		}
		said := []string{fmt.Sprint(l.Attributes["watchglass.credentials.cause"])}
		for _, id := range []struct{ key, name string }{
			{"process.real_user.id", "real"},
			{"watchglass.credentials.user_id", "effective"},
			{"process.saved_user.id", "saved"},
			{"watchglass.credentials.group_id", "group"},
		} {
			if now, changed := l.Attributes[id.key].(float64); changed {
				said = append(said, fmt.Sprintf("%s=%v", id.name, now))
			}
		}
		if l.Attributes["watchglass.credentials.elevated"] == true {
			said = append(said, "elevated")
		}
		if gained, _ := l.Attributes["watchglass.credentials.capabilities.gained"].([]any); slices.Contains(gained, any("CAP_SYS_ADMIN")) {
			said = append(said, "gained")
		}
		if l.Attributes["watchglass.process.initial_user_namespace"] == false {
			said = append(said, "namespace")
		}
		changes = append(changes, strings.Join(said, " "))
	}
	return changes
}

// TestKernelRunCredentials: who a process acts as, and what it may do, is told when it changes.
func TestKernelRunCredentials(t *testing.T) {
	testenv.RequireEBPF(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	helper := []string{self, "-test.run=^TestHelperCredentials$"}
	for _, c := range []struct {
		name    string
		command []string
		// program is the one whose changes are looked at.
		program string
		want    []string
	}{
		{"setgid", helper, filepath.Base(self), []string{"setgid group=4321"}},
		{"setuid", helper, filepath.Base(self), []string{"setuid real=1234 effective=1234 saved=1234"}},
		{"setreuid", helper, filepath.Base(self), []string{"setreuid effective=1234 saved=1234"}},
		{"setresuid", helper, filepath.Base(self), []string{"setresuid real=1 effective=2 saved=3"}},
		{"and back", helper, filepath.Base(self), []string{"setresuid effective=1234", "setresuid effective=0"}},
		{"refused", helper, filepath.Base(self), []string{"setuid real=1234 effective=1234 saved=1234"}},
		{"a namespace of its own", []string{"unshare", "-U", "true"}, "unshare", []string{"unshare gained namespace"}},
		{
			"a namespace of a user's own",
			[]string{"setpriv", "--reuid", "1234", "--clear-groups", "unshare", "-U", "true"},
			"unshare",
			[]string{"unshare gained namespace"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(changesVariable, c.name)
			events := filepath.Join(t.TempDir(), "e.jsonl")
			got := finish(t, program(t, append([]string{"run", "--json", events, "--"}, c.command...)...))
			if got.code != 0 {
				t.Fatalf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
			}
			changes := credentialChanges(readLines(t, events), c.program)
			if diff := cmp.Diff(c.want, changes); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}
