// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/internal/testenv"
)

// logBuffer takes a program's log while others read it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// collecting is a daemon at work over cgroups of the test's own.
type collecting struct {
	t              *testing.T
	top            string // a cgroup's directory, below which sandboxes are made
	config, events string
	log            *logBuffer
	cmd            *exec.Cmd
	notify         *net.UnixConn
}

// write writes the configuration with these selectors, below the test's own cgroup, and more text.
func (c *collecting) write(more string, selectors ...string) {
	c.t.Helper()
	m, err := sandbox.FindMount()
	if err != nil {
		c.t.Fatal(err)
	}
	below, err := m.Path(c.top)
	if err != nil {
		c.t.Fatal(err)
	}
	text := "sandboxes:\n  cgroups:\n"
	for _, s := range selectors {
		text += "    - " + below + s + "\n"
	}
	text += fmt.Sprintf("journal: {dir: %q}\nexporters:\n  json: {enabled: true, path: %q}\n  prometheus: {address: \"127.0.0.1:0\"}\n", filepath.Dir(c.events)+"/journal", c.events) + more
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// prepareCollect makes the cgroup and the configuration; start starts the daemon.
func prepareCollect(t *testing.T) *collecting {
	t.Helper()
	testenv.RequireEBPF(t)
	m, err := sandbox.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &collecting{
		t: t, log: &logBuffer{}, config: filepath.Join(dir, "c.yaml"), events: filepath.Join(dir, "e.jsonl"),
		top: filepath.Join(m.Dir, fmt.Sprintf("watchglass-test-%d-%d", os.Getpid(), time.Now().UnixNano())),
	}
	c.mkdir("")
	if c.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.notify.Close() })
	return c
}

func (c *collecting) start() {
	c.t.Helper()
	c.cmd = program(c.t, "collect", "--config", c.config)
	c.cmd.Stderr = c.log
	c.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+c.notify.LocalAddr().String())
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if c.cmd.ProcessState != nil {
			return
		}
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		// One that is killed leaves its programs at work. Not by program(): the test's context is over.
		unload := exec.Command(c.cmd.Path)
		unload.Args = []string{programName, "collect", "--unload", "--config", c.config}
		if out, err := unload.CombinedOutput(); err != nil {
			c.t.Logf("removing the pins: %v\n%s", err, out)
		}
	})
	c.told("READY=1")
}

// told waits until the service manager is told of a state.
func (c *collecting) told(state string) {
	c.t.Helper()
	buf := make([]byte, 256)
	if err := c.notify.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		c.t.Fatal(err)
	}
	for {
		n, err := c.notify.Read(buf)
		if err != nil {
			c.t.Fatalf("waiting for %s: %v; the log:\n%s", state, err, c.log)
		}
		if string(buf[:n]) == state {
			return
		}
	}
}

// mkdir makes a cgroup below the test's own, removed at the end with who is in it.
func (c *collecting) mkdir(name string) string {
	c.t.Helper()
	dir := filepath.Join(c.top, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0)
		for range 500 {
			if err := os.Remove(dir); err == nil || os.IsNotExist(err) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		c.t.Errorf("cgroup %s is left", dir)
	})
	return dir
}

// in runs a shell script in a cgroup to its end.
func (c *collecting) in(dir, script string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "sh", "-c", "echo 0 > "+dir+"/cgroup.procs && "+script)
	if output, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%q: %v: %s", script, err, output)
	}
}

// stop stops the daemon in good order, and returns what it wrote.
func (c *collecting) stop() []line {
	c.t.Helper()
	c.terminate()
	return readLines(c.t, c.events)
}

// terminate stops the daemon in good order.
func (c *collecting) terminate() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(unix.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	c.told("STOPPING=1")
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("the daemon: %v; the log:\n%s", err, c.log)
	}
}

func (c *collecting) logs(part string) {
	c.t.Helper()
	waitFor(c.t, fmt.Sprintf("%q in the log", part), func() bool { return strings.Contains(c.log.String(), part) })
}

// execs is the first arguments of the execs in the sandbox of a cgroup.
func execs(list []line, cgroup string) []string {
	var names []string
	for _, l := range list {
		if of, _ := l.Resource["watchglass.sandbox.cgroup"].(string); l.Event == "watchglass.process.exec" && strings.HasSuffix(of, cgroup) {
			names = append(names, strings.Join(l.args(), " "))
		}
	}
	return names
}

func TestKernelCollect(t *testing.T) {
	c := prepareCollect(t)
	c.write("", "/agent-*")
	before := c.mkdir("agent-before")
	existing := exec.CommandContext(t.Context(), "sh", "-c", "echo 0 > "+before+"/cgroup.procs && exec sleep 1000")
	if err := existing.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a process in the cgroup", func() bool {
		text, err := os.ReadFile(before + "/cgroup.procs")
		return err == nil && len(text) > 0
	})
	c.start()
	after, other := c.mkdir("agent-after"), c.mkdir("other")
	inner := c.mkdir("agent-after/inner")
	// What runs before the daemon knows of the new cgroup is not seen.
	waitFor(t, "the new sandbox to be watched", func() bool {
		text, err := os.ReadFile(c.events)
		return err == nil && regexp.MustCompile(`"event":"watchglass\.sandbox\.start".*/agent-after"`).Match(text)
	})
	c.in(after, "/bin/echo in after")
	c.in(inner, "/bin/echo in inner")
	c.in(other, "/bin/echo in other")
	if err := existing.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = existing.Wait()
	list := c.stop()

	if got, want := execs(list, "/agent-after"), []string{"/bin/echo in after", "/bin/echo in inner"}; !slices.Equal(got, want) {
		t.Errorf("execs in the sandbox that was made later: %q, want %q", got, want)
	}
	found := false
	for _, l := range list {
		switch of, _ := l.Resource["watchglass.sandbox.cgroup"].(string); {
		case l.Event == "watchglass.sandbox.start" && strings.HasSuffix(of, "/agent-before"):
			if n := l.Attributes["watchglass.sandbox.processes"]; n != 1.0 {
				t.Errorf("the sandbox that was there starts with %v processes, want 1", n)
			}
		case l.Event == "watchglass.process.exit" && strings.HasSuffix(of, "/agent-before"):
			found = true
			if l.Attributes["process.executable.name"] != "sleep" || l.Attributes["watchglass.exit.signal"] != "SIGKILL" {
				t.Errorf("the end of the process that was there: %v", l.Attributes)
			}
		case strings.HasSuffix(of, "/other"):
			t.Errorf("a cgroup that is no sandbox is watched: %v", l)
		}
	}
	if !found {
		t.Error("the end of the process that was there before is missing")
	}
}

func TestKernelCollectReload(t *testing.T) {
	c := prepareCollect(t)
	c.write("", "/first")
	first, second := c.mkdir("first"), c.mkdir("second")
	c.start()
	c.in(first, "/bin/echo 1")
	c.in(second, "/bin/echo 1")
	reload := func() {
		t.Helper()
		if err := c.cmd.Process.Signal(unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
		c.told("READY=1")
	}

	c.write("kernel: {ring_bytes: 16777216}\nlog: {level: debug}\n", "/second")
	reload()
	c.logs("no longer watching a sandbox")
	c.logs("take effect only after a restart")
	c.logs("settings=[kernel]")
	c.in(first, "/bin/echo 2")
	c.in(second, "/bin/echo 2")

	c.write("nonsense: true\n", "/first")
	reload()
	c.logs(`unknown key \"nonsense\"`)
	c.in(first, "/bin/echo 3")
	c.in(second, "/bin/echo 3")

	list := c.stop()
	if got, want := execs(list, "/first"), []string{"/bin/echo 1"}; !slices.Equal(got, want) {
		t.Errorf("execs in the first: %q, want %q", got, want)
	}
	if got, want := execs(list, "/second"), []string{"/bin/echo 2", "/bin/echo 3"}; !slices.Equal(got, want) {
		t.Errorf("execs in the second: %q, want %q", got, want)
	}
}

func TestKernelCollectServesMetrics(t *testing.T) {
	c := prepareCollect(t)
	c.write("", "/agent")
	c.mkdir("agent")
	c.start()
	var address []string
	waitFor(t, "the address in the log", func() bool {
		address = regexp.MustCompile(`serving metrics" address=(\S+)`).FindStringSubmatch(c.log.String())
		return address != nil
	})
	for path, want := range map[string]string{
		"/metrics": "watchglass_sandboxes 1\n", "/healthz": "ok", "/readyz": "ok",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address[1]+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, %v, lacks %q", path, response.StatusCode, err, want)
		}
	}
	c.stop()
}

// TestKernelCollectDrains stops the daemon in the middle of a storm: what happened before is all there.
func TestKernelCollectDrains(t *testing.T) {
	c := prepareCollect(t)
	c.write("", "/agent")
	agent := c.mkdir("agent")
	c.start()
	const n = 500
	c.in(agent, fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done", n))
	if got := len(execs(c.stop(), "/agent")); got != n {
		t.Errorf("%d execs, want %d", got, n)
	}
}
