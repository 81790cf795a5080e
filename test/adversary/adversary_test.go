// SPDX-License-Identifier: Apache-2.0

package adversary

import (
	"bytes"
	"context"
	"encoding/json"
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

// longest is how long one attempt may take.
const longest = 3 * time.Minute

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
	if _, err := exec.LookPath("cc"); err != nil {
		testenv.Unable(t, "the attempts need a C compiler")
	}
	tools := t.TempDir()
	build := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	build("go", "build", "-o", filepath.Join(tools, "watchglass"), "github.com/watchglass/watchglass/cmd/watchglass")
	build("cc", "-O1", "-static", "-pthread", "-o", filepath.Join(tools, "evade"), "../corpus/tools/evade.c")
	for _, a := range attempts() {
		t.Run(a.name, func(t *testing.T) {
			var told, other []line
			if a.beside == "" {
				told = perform(t, a, tools, python)
			} else {
				told, other = beside(t, &a, tools, python)
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

// perform makes an attempt and returns what was told of its sandbox.
func perform(t *testing.T, a attempt, tools, python string) []line {
	t.Helper()
	home := t.TempDir()
	env, secret := place(t, home)
	config, events := filepath.Join(tools, "config.yaml"), filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(config, []byte(a.config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	name := "adversary-" + strconv.Itoa(os.Getpid())
	cmd := exec.CommandContext(ctx, filepath.Join(tools, "watchglass"), "run", "--quiet", "--config", config, "--name", name,
		"--json", events, "--", "bash", "-c", a.script)
	cmd.Env = append(append(os.Environ(), env...), "HOME="+home, "TMPDIR="+home, "SECRET="+secret,
		"EVADE="+filepath.Join(tools, "evade"), "PYTHON="+python)
	cmd.Dir, cmd.WaitDelay = home, 10*time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("the attempt itself fails: %v\n%s", err, out.String())
	}
	var told []line
	for _, l := range read(t, events) {
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
