// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/watchglass/watchglass/test/e2e/model"
)

// scenario is the work an agent is given: a bit of everything a command can do.
type scenario struct {
	// servicePort is open on loopback, refusedPort closed.
	servicePort, refusedPort int
}

// script is the scenario as the model tells it. Its last calls are read-only, since agents run no others at once.
func (s scenario) script() model.Script {
	return model.Script{
		{Calls: []model.Call{{Name: "write", Command: "echo hello > out.txt"}}},
		{Calls: []model.Call{{Name: "read", Command: "cat README.md"}}},
		{Calls: []model.Call{{Name: "fail", Command: "sh -c 'exit 7'"}}},
		{Calls: []model.Call{{Name: "service", Command: "bash -c '" + greet(s.servicePort) + "'"}}},
		{Calls: []model.Call{{Name: "refused", Command: "bash -c '" + greet(s.refusedPort) + "'"}}},
		{Calls: []model.Call{{Name: "children", Command: `for n in 1 2 3; do sh -c "sleep 0.2; exit $n" & done; wait`}}},
		{Calls: []model.Call{{Name: "pipeline", Command: "ls -1 | sort -r | head -n 1"}}},
		{Calls: []model.Call{
			{Name: "lines", Command: "wc -l README.md"},
			{Name: "bytes", Command: "wc -c README.md"},
		}},
		{Text: "All done."},
	}
}

// greet is a command that connects to a port of loopback with nothing but bash.
func greet(port int) string {
	return fmt.Sprintf("read -r line < /dev/tcp/127.0.0.1/%d && echo got $line", port)
}

// process is a process that a call of the scenario starts.
type process struct {
	call string
	args []string
	exit int
}

// processes is every process of the scenario apart from the agents' own shells, each of which is the only one
// with its arguments. Whether the service can be reached is the agent's sandbox's affair.
func (s scenario) processes(network bool) []process {
	service := 1
	if network {
		service = 0
	}
	list := []process{
		{"read", []string{"cat", "README.md"}, 0},
		{"fail", []string{"sh", "-c", "exit 7"}, 7},
		{"service", []string{"bash", "-c", greet(s.servicePort)}, service},
		{"refused", []string{"bash", "-c", greet(s.refusedPort)}, 1},
		{"pipeline", []string{"ls", "-1"}, 0},
		{"pipeline", []string{"sort", "-r"}, 0},
		{"pipeline", []string{"head", "-n", "1"}, 0},
		{"lines", []string{"wc", "-l", "README.md"}, 0},
		{"bytes", []string{"wc", "-c", "README.md"}, 0},
	}
	for n := 1; n <= 3; n++ {
		list = append(list, process{"children", child(n), n})
	}
	return list
}

// child is the arguments of one of the processes that call "children" starts side by side.
func child(n int) []string { return []string{"sh", "-c", fmt.Sprintf("sleep 0.2; exit %d", n)} }

// checkFacts checks what the kernel has to have seen, whoever the agent. The shells are the execs with which
// the agent began each call, by the call's name.
func (s *stage) checkFacts(t *testing.T, events stream, shells map[string]record, network bool) {
	t.Helper()
	events.sound(t)
	for _, want := range s.scenario.processes(network) {
		exec := events.exec(t, want.args...)
		events.exitCode(t, exec, want.exit)
		if shell := shells[want.call]; !events.descends(exec.text(attrUID), shell.text(attrUID)) {
			t.Errorf("%q does not descend from the shell of call %q", want.args, want.call)
		}
		if got := exec.text("process.working_directory"); got != s.site.Work {
			t.Errorf("%q ran in %q, want %q", want.args, got, s.site.Work)
		}
	}
	s.checkChildren(t, events)
	s.checkFiles(t, events, shells)
	if network {
		s.checkConnects(t, events)
	} else {
		s.checkNoConnects(t, events)
	}
}

// checkChildren checks parents: each sleep has its own sh, and what ran side by side has one parent.
func (s *stage) checkChildren(t *testing.T, events stream) {
	t.Helper()
	sleeps := events.execs("sleep", "0.2")
	if len(sleeps) != 3 {
		t.Errorf("%d execs of sleep, want 3", len(sleeps))
	}
	var parents []string
	for _, sleep := range sleeps {
		events.exitCode(t, sleep, 0)
		parents = append(parents, sleep.text(attrParentUID))
	}
	for n := 1; n <= 3; n++ {
		if sh := events.exec(t, child(n)...); !slices.Contains(parents, sh.text(attrUID)) {
			t.Errorf("no sleep has %q for its parent", sh.args())
		}
	}
	for _, siblings := range [][]record{
		{events.exec(t, child(1)...), events.exec(t, child(2)...), events.exec(t, child(3)...)},
		{events.exec(t, "ls", "-1"), events.exec(t, "sort", "-r"), events.exec(t, "head", "-n", "1")},
	} {
		for _, sibling := range siblings {
			if sibling.text(attrParentUID) != siblings[0].text(attrParentUID) {
				t.Errorf("%q and %q have not the same parent", siblings[0].args(), sibling.args())
			}
		}
	}
}

// checkFiles checks that the file written and the files read were seen, opened by the right processes.
func (s *stage) checkFiles(t *testing.T, events stream, shells map[string]record) {
	t.Helper()
	opens := func(name, access string) []record {
		return events.all(eventOpen, func(r record) bool {
			return r.text("file.path") == filepath.Join(s.site.Work, name) && r.text("error.type") == "" &&
				slices.Contains(r.list("watchglass.file.access"), access)
		})
	}
	written := opens("out.txt", "write")
	if len(written) != 1 || !events.descends(written[0].text(attrUID), shells["write"].text(attrUID)) {
		t.Errorf("out.txt was opened for writing %d times, want once by call %q: %v", len(written), "write", written)
	}
	readers := map[string]bool{}
	for _, open := range opens("README.md", "read") {
		readers[open.text(attrUID)] = true
	}
	for _, reader := range [][]string{{"cat", "README.md"}, {"wc", "-l", "README.md"}, {"wc", "-c", "README.md"}} {
		if !readers[events.exec(t, reader...).text(attrUID)] {
			t.Errorf("%q was not seen to open README.md", reader)
		}
	}
}

// checkConnects checks the connection that was made and the one that was refused.
func (s *stage) checkConnects(t *testing.T, events stream) {
	t.Helper()
	for _, want := range []struct {
		port  int
		error string
	}{{s.scenario.servicePort, ""}, {s.scenario.refusedPort, "ECONNREFUSED"}} {
		connects := events.connects(want.port)
		if len(connects) != 1 {
			t.Errorf("%d connects to port %d, want 1: %v", len(connects), want.port, connects)
			continue
		}
		connect, exec := connects[0], events.exec(t, "bash", "-c", greet(want.port))
		if connect.text(attrUID) != exec.text(attrUID) {
			t.Errorf("port %d was connected to by process %s, want %s", want.port, connect.text(attrUID), exec.text(attrUID))
		}
		if got := connect.text("error.type"); got != want.error {
			t.Errorf("the connect to port %d ended in %q, want %q", want.port, got, want.error)
		}
		if connect.text(attrCallID) != exec.text(attrCallID) {
			t.Errorf("the connect to port %d belongs to call %q, its process to %q", want.port, connect.text(attrCallID), exec.text(attrCallID))
		}
	}
}

// checkNoConnects checks that nothing is reported that did not happen: the agent's seccomp filter refuses
// these commands a socket, so no connect was ever tried.
func (s *stage) checkNoConnects(t *testing.T, events stream) {
	t.Helper()
	for _, port := range []int{s.scenario.servicePort, s.scenario.refusedPort} {
		if connects := events.connects(port); len(connects) != 0 {
			t.Errorf("%d connects to port %d, want none: %v", len(connects), port, connects)
		}
	}
}
