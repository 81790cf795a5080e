// SPDX-License-Identifier: Apache-2.0

package adversary

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/internal/testenv"
)

// The variables that say by what attempts are made: toolsVariable a directory that holds what else is built here (machine.sh
// makes one), planVariable the hook plan to be followed, where it is not left to the collector, and machineVariable whether this
// is an emulated machine.
const (
	toolsVariable   = "WATCHGLASS_ADVERSARY_TOOLS"
	planVariable    = "WATCHGLASS_PLAN"
	machineVariable = "WATCHGLASS_VM"
)

// longest is how long one attempt may take.
func longest() time.Duration {
	if os.Getenv(machineVariable) == "1" {
		return 20 * time.Minute
	}
	return 3 * time.Minute
}

// tools is the programs that attempts are made by.
type tools struct {
	// dir holds watchglass, evade and preload.so.
	dir, python string
}

// environment is where scripts find them, as variables.
func (s tools) environment() []string {
	return []string{"EVADE=" + filepath.Join(s.dir, "evade"), "PRELOAD=" + filepath.Join(s.dir, "preload.so"), "PYTHON=" + s.python}
}

func (s tools) watchglass() string { return filepath.Join(s.dir, "watchglass") }

// line is one line of the stream of events.
type line struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	Body  string    `json:"body"`
	// Resource says which sandbox it is of, Attributes which process.
	Resource   map[string]any `json:"resource"`
	Attributes map[string]any `json:"attributes"`
}

// TestKernelAdversary has each attempt made in a sandbox of its own, and looks for what tells of it there.
func TestKernelAdversary(t *testing.T) {
	testenv.RequireRoot(t)
	testenv.RequireEBPF(t)
	python := ""
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if path, err := exec.LookPath(name); err == nil && python == "" {
			python = path
		}
	}
	if python == "" {
		testenv.Unable(t, "the attempts need python3")
	}
	by := tools{built(t), python}
	for _, a := range attempts() {
		t.Run(a.name, func(t *testing.T) {
			var told, other []line
			if a.beside == "" {
				told = perform(t, &a, by)
			} else {
				told, other = beside(t, &a, by)
			}
			missing := append(untold(t, a.want, told), untold(t, a.wantBeside, other)...)
			if a.reuse && !reused(told) {
				missing = append(missing, "two processes of one pid")
			}
			if a.check != nil {
				missing = append(missing, a.check(told, other)...)
			}
			switch {
			case a.limit == "" && len(missing) > 0:
				t.Errorf("not told: %q", missing)
			case a.limit != "" && len(missing) == 0:
				t.Errorf("it is told now, and no limit any more: take it out of the table and of docs/limits.md: %s", a.limit)
			}
		})
	}
}

// built is a directory with what the attempts are made by: built now, unless it was elsewhere, for a machine without compilers.
func built(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(toolsVariable); dir != "" {
		if err := holdsTools(dir); err != nil {
			t.Fatalf("%s: %v; test/adversary/machine.sh makes such a directory", toolsVariable, err)
		}
		return dir
	}
	if _, err := exec.LookPath("cc"); err != nil {
		testenv.Unable(t, "the attempts need a C compiler")
	}
	dir := t.TempDir()
	build := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	build("go", "build", "-o", filepath.Join(dir, "watchglass"), "github.com/watchglass/watchglass/cmd/watchglass")
	build("cc", "-O1", "-static", "-pthread", "-o", filepath.Join(dir, "evade"), "../corpus/tools/evade.c")
	build("cc", "-shared", "-fPIC", "-o", filepath.Join(dir, "preload.so"), "tools/preload.c")
	return dir
}

// holdsTools says what a directory lacks of what attempts are made by, in any home directory.
func holdsTools(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%q is no absolute path", dir)
	}
	for _, name := range []string{"watchglass", "evade", "preload.so"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Mode().Perm()&0o100 == 0 {
			return fmt.Errorf("%s in %s cannot be executed", name, dir)
		}
	}
	return nil
}

// TestToolsAreThere: what attempts are made by is not looked for where they are made, and is not missed there.
func TestToolsAreThere(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	put := func(name string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		put  string
		mode os.FileMode
		want string
	}{
		{"watchglass", 0o700, "evade: no such file"},
		{"evade", 0o700, "preload.so: no such file"},
		{"preload.so", 0o600, "preload.so in " + dir + " cannot be executed"},
		{"preload.so", 0o700, ""},
	} {
		put(c.put, c.mode)
		got := ""
		if err := holdsTools(dir); err != nil {
			got = err.Error()
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("with %s of mode %o: %q, want %q", c.put, c.mode, got, c.want)
		}
	}
	if err := holdsTools("."); err == nil {
		t.Error("a relative path is taken")
	}
}

// configuration is what an attempt's collector is configured by, besides what chooses its sandboxes and outputs.
func (a *attempt) configuration() string {
	kernel := a.kernel
	if plan := os.Getenv(planVariable); plan != "" {
		kernel = strings.TrimPrefix(kernel+", plan: "+plan, ", ")
	}
	return a.config + "kernel: {" + kernel + "}\n"
}

// otherPlans is which probes saw system calls by another hook plan than the one to be followed.
func otherPlans(all []line) (missing []string) {
	plan := os.Getenv(planVariable)
	if plan == "" || plan == "auto" {
		return nil
	}
	followed := 0
	for _, l := range all {
		switch own, _ := l.Attributes["watchglass.probe.plan"].(string); own {
		case "":
		case plan:
			followed++
		default:
			missing = append(missing, "by the plan "+plan+": "+l.Body)
		}
	}
	if followed == 0 {
		missing = append(missing, "a probe of the plan "+plan)
	}
	return missing
}

// perform makes an attempt and returns what was told of its sandbox.
func perform(t *testing.T, a *attempt, by tools) []line {
	t.Helper()
	home := t.TempDir()
	env, secret := place(t, home)
	dir := t.TempDir()
	config, events := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "events.jsonl")
	if err := os.WriteFile(config, []byte(a.configuration()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), longest())
	defer cancel()
	name := "adversary-" + strconv.Itoa(os.Getpid())
	cmd := exec.CommandContext(ctx, by.watchglass(), "run", "--quiet", "--config", config, "--name", name,
		"--json", events, "--", "bash", "-c", a.script)
	cmd.Env = append(append(append(os.Environ(), env...), by.environment()...), "HOME="+home, "TMPDIR="+home, "SECRET="+secret)
	cmd.Dir, cmd.WaitDelay = home, 10*time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("the attempt itself fails: %v\n%s", err, out.String())
	}
	var told []line
	all := read(t, events)
	if other := otherPlans(all); len(other) > 0 {
		t.Errorf("not seen as it should be: %q", other)
	}
	for _, l := range all {
		// Of another sandbox nothing counts; of none only what was lost before anybody was known.
		if l.Resource["watchglass.sandbox.name"] == name || l.Event == "watchglass.telemetry.loss" {
			told = append(told, l)
		}
	}
	return told
}

// place puts a secret into a home directory, and returns what else attempts find, as variables.
func place(t *testing.T, home string) (env []string, secret string) {
	t.Helper()
	secret = filepath.Join(home, ".aws", "credentials")
	if err := os.Mkdir(filepath.Dir(secret), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return outside(t, secret), secret
}

// read is the stream of events in a file.
func read(t *testing.T, events string) (all []line) {
	t.Helper()
	text, err := os.ReadFile(events)
	if err != nil {
		t.Fatal(err)
	}
	for raw := range strings.Lines(string(text)) {
		var l line
		if err := json.Unmarshal([]byte(raw), &l); err != nil {
			t.Fatalf("%.200q: %v", raw, err)
		}
		all = append(all, l)
	}
	return all
}

// untold is what of the wanted no line tells.
func untold(t *testing.T, want []string, told []line) []string {
	t.Helper()
	var missing []string
	for _, w := range want {
		least, pattern := 1, w
		if number, rest, ok := strings.Cut(w, "× "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				least, pattern = n, rest
			}
		}
		matches := regexp.MustCompile("^" + pattern).MatchString
		found := 0
		for _, l := range told {
			if matches(strings.TrimPrefix(l.Event, "watchglass.") + " " + l.Body) {
				found++
			}
		}
		if found < least {
			missing = append(missing, fmt.Sprintf("%s (%d times)", w, found))
		}
	}
	if len(missing) > 0 {
		for i, l := range told {
			if l.Event != "watchglass.process.exec" && l.Event != "watchglass.file.open" && i < 20000 && len(told) < 3000 {
				t.Logf("told: %s %.200s", l.Event, l.Body)
			}
		}
	}
	return missing
}

// TestPlanIsThatToBeFollowed: the plan that a run asks for is in the configuration beside what the attempt needs, and an attempt
// counts only where the probes followed it.
func TestPlanIsThatToBeFollowed(t *testing.T) {
	probe := func(plan string) line {
		return line{Event: "watchglass.telemetry.probe", Attributes: map[string]any{"watchglass.probe.plan": plan}}
	}
	for _, c := range []struct {
		plan, kernel, want string
		probes             []line
		followed           bool
	}{
		{"", "", "hashes: {}\nkernel: {}\n", nil, true},
		{"", "ring_bytes: 65536", "hashes: {}\nkernel: {ring_bytes: 65536}\n", nil, true},
		{"auto", "", "hashes: {}\nkernel: {plan: auto}\n", []line{probe("tracepoint")}, true},
		{"trampoline", "", "hashes: {}\nkernel: {plan: trampoline}\n", []line{{}, probe("trampoline")}, true},
		{"trampoline", "ring_bytes: 65536", "hashes: {}\nkernel: {ring_bytes: 65536, plan: trampoline}\n", []line{probe("trampoline"), probe("tracepoint")}, false},
		{"trampoline", "", "hashes: {}\nkernel: {plan: trampoline}\n", []line{{}}, false},
	} {
		t.Setenv(planVariable, c.plan)
		a := attempt{config: "hashes: {}\n", kernel: c.kernel}
		if got := a.configuration(); got != c.want {
			t.Errorf("the plan %q and %q make %q, want %q", c.plan, c.kernel, got, c.want)
		}
		if got := otherPlans(c.probes); (len(got) == 0) != c.followed {
			t.Errorf("of the plan %q and %v it is said that %q", c.plan, c.probes, got)
		}
	}
}

// reused says whether two processes are told apart that had one pid.
func reused(told []line) bool {
	owners := map[any]any{}
	for _, l := range told {
		pid, uid := l.Attributes["process.pid"], l.Attributes["watchglass.process.uid"]
		if l.Event != "watchglass.process.exec" || uid == nil {
			continue
		}
		if owner, ok := owners[pid]; ok && owner != uid {
			return true
		}
		owners[pid] = uid
	}
	return false
}

// outside is what attempts find outside of the sandbox, as variables.
func outside(t *testing.T, secret string) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "adversary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	abstract := fmt.Sprintf("watchglass-adversary-%d-%d", os.Getpid(), time.Now().UnixNano())
	socket := filepath.Join(dir, "handover")
	listen := func(network, address string, serve func(net.Conn)) net.Listener {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go serve(c)
			}
		}()
		return l
	}
	swallow := func(c net.Conn) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				_ = c.Close()
				return
			}
		}
	}
	port := listen("tcp", "127.0.0.1:0", swallow).Addr().(*net.TCPAddr).Port
	listen("unix", "@"+abstract, swallow)
	listen("unix", socket, func(c net.Conn) { handOver(c, secret) })
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = datagrams.Close() })
	return []string{
		fmt.Sprintf("PORT=%d", port), fmt.Sprintf("DATAGRAM=%d", datagrams.LocalAddr().(*net.UDPAddr).Port),
		"SOCKET=" + socket, "ABSTRACT=" + abstract,
	}
}

// handOver opens the secret and gives the descriptor away.
func handOver(c net.Conn, secret string) {
	defer func() { _ = c.Close() }()
	f, err := os.Open(secret)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	_, _, _ = c.(*net.UnixConn).WriteMsgUnix([]byte("x"), unix.UnixRights(int(f.Fd())), nil)
}
