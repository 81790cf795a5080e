// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
)

// pageBytes is as much of the environment as the kernel side reads at once (ENVIRONMENT_BLOCK).
const pageBytes = 4096

// TestKernelEnvironmentPlaces has a wanted variable begin at each place around the end of what is read at once, and at
// each place in a word. The environment ends at a fixed place of a page, so what follows the variable moves it.
func TestKernelEnvironmentPlaces(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	want := []event.EnvVar{{Name: "AI_AGENT", Value: "a"}, {Name: "CLAUDECODE", Value: "1"}}
	// The program's name, and 8 bytes, lie between the environment and the end of its page.
	const beyond, variable = len("/bin/true\x00") + 8, len("CLAUDECODE=1\x00")
	var cases []environmentCase
	for distance := -20; distance <= 20; distance++ {
		after := pageBytes - beyond - variable + distance
		env := []string{"X=1", "AI_AGENT=a", "CLAUDECODE=1", "Z=" + strings.Repeat("z", after-len("Z=")-1)}
		cases = append(cases, environmentCase{fmt.Sprint("distance ", distance), env, want})
	}
	w.wantEnvironments(cases)
}

// environmentCase is an environment and what is to be told of it.
type environmentCase struct {
	name string
	env  []string
	want []event.EnvVar
}

// wantEnvironments runs a program with each environment and checks what is told of that: all at last, since to wait for a
// record takes longer than all the rest.
func (w *watch) wantEnvironments(cases []environmentCase) {
	w.t.Helper()
	ran := map[int]environmentCase{}
	for _, c := range cases {
		cmd := &exec.Cmd{Path: "/bin/true", Args: []string{"true"}}
		w.startRaw(w.t, cmd, c.env)
		if again, twice := ran[cmd.Process.Pid]; twice {
			w.t.Fatalf("%s has the pid of %s", c.name, again.name)
		}
		ran[cmd.Process.Pid] = c
	}
	told := w.await(len(cases), func(r *Record) bool { _, ok := r.Payload.(*event.ProcessExec); return ok })
	if len(told) != len(cases) {
		w.t.Fatalf("%d execs are told of %d", len(told), len(cases))
	}
	for _, r := range told {
		c := ran[int(r.Task.PID)]
		if diff := cmp.Diff(c.want, r.Payload.(*event.ProcessExec).Env); diff != "" {
			w.t.Errorf("%s: environment differs (-want +got):\n%s\nof %q", c.name, diff, c.env)
		}
		if r.Truncated {
			w.t.Errorf("%s: says that something was cut", c.name)
		}
	}
}

// TestKernelEnvironmentAny compares what is told of environments that were made up with what is in them.
func TestKernelEnvironmentAny(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	names := testConfig().Environment
	// What is next to a NUL matters most: 0x01 borrows from it, 0x80 has its top bit.
	letters := []byte("\x01\x7f\x80\xff=CLAUDEOX_")
	var cases []environmentCase
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		var env []string
		var want []event.EnvVar
		for range random.IntN(150) {
			text := make([]byte, random.IntN([]int{3, 12, 40, 300}[random.IntN(4)]))
			for i := range text {
				text[i] = letters[random.IntN(len(letters))]
			}
			variable := string(text)
			if random.IntN(12) == 0 {
				variable = names[random.IntN(len(names))] + "=" + variable
			}
			env = append(env, variable)
			if name, value, ok := strings.Cut(variable, "="); ok && slices.Contains(names, name) {
				want = append(want, event.EnvVar{Name: name, Value: value})
			}
		}
		cases = append(cases, environmentCase{fmt.Sprint("seed ", seed), env, want})
	}
	w.wantEnvironments(cases)
}

// TestKernelEnvironmentShort has names looked for that are shorter than what variables are told apart by at first.
func TestKernelEnvironmentShort(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.Environment = []string{"A", "AB", "CLAUDECODE"}
	w := startWatchWith(t, cfg)
	env := []string{"B=1", "A=2", "ABC=3", "AB=4", "A", "CLAUDECODE=5", "A="}
	want := []event.EnvVar{{Name: "A", Value: "2"}, {Name: "AB", Value: "4"}, {Name: "CLAUDECODE", Value: "5"}, {Name: "A"}}
	w.wantEnvironments([]environmentCase{{"short names", env, want}})
}

// helperBecome32 becomes a 32-bit program, with its own environment.
func helperBecome32([]string) (string, error) {
	var c code32
	c.exit()
	return "", run32(&c, nil)
}

// TestKernelEnvironment32 has a 32-bit program executed by one that has itself another environment.
func TestKernelEnvironment32(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
	cmd.Env = []string{helperVariable + "=become 32", "CLAUDECODE=1"}
	w.finish(cmd)
	execs := w.await(2, of[*event.ProcessExec](cmd.Process.Pid))
	if len(execs) != 2 {
		t.Fatalf("%d execs, want 2", len(execs))
	}
	for i, want := range [][]event.EnvVar{{{Name: "CLAUDECODE", Value: "1"}}, {{Name: "AI_AGENT", Value: "32"}}} {
		if diff := cmp.Diff(want, execs[i].Payload.(*event.ProcessExec).Env); diff != "" {
			t.Errorf("environment %d differs (-want +got):\n%s", i, diff)
		}
	}
}
