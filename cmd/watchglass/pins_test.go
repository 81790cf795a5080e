// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// pinning is a daemon that pins into a bpffs of the test's own.
func pinning(t *testing.T, more string) (c *collecting, pins string) {
	t.Helper()
	c = prepareCollect(t)
	root, err := os.MkdirTemp("/tmp", "watchglass-pins-") // its path must not have a dot
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", root, "bpf", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(root, unix.MNT_DETACH), os.Remove(root)); err != nil {
			t.Error(err)
		}
	})
	pins = filepath.Join(root, "watchglass")
	// A ring that takes what happens while nobody reads, however slow the machine is.
	c.write(fmt.Sprintf("kernel:\n  ring_bytes: 67108864\n  pins: {enabled: true, dir: %q%s}\n", pins, more), "/agent-*")
	return c, pins
}

// kill ends the daemon without a word.
func (c *collecting) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	_ = c.cmd.Wait()
}

// kept is what the journal holds.
func (c *collecting) kept() []line {
	c.t.Helper()
	got := finish(c.t, program(c.t, "events", "--config", c.config, "--json"))
	if got.code != 0 {
		c.t.Fatalf("reading the journal: %s", got.stderr)
	}
	var list []line
	for raw := range strings.Lines(got.stdout) {
		var l line
		if err := json.Unmarshal([]byte(raw), &l); err != nil {
			c.t.Fatalf("%.200q: %v", raw, err)
		}
		list = append(list, l)
	}
	return list
}

// busy is a sandbox in which a program is executed and a connection made, again and again, with the count of both.
type busy struct {
	execs, connects atomic.Int64
	cmd             *exec.Cmd
	end             func()
}

func (c *collecting) busy(dir string) *busy {
	c.t.Helper()
	b := &busy{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.connects.Add(1)
			_ = conn.Close()
		}
	}()
	const script = `echo 0 >"$1"/cgroup.procs; read -r go; i=0
		while read -r -t 0 || [ ! -e "$3" ]; do /bin/true "$i"; exec 3<>/dev/tcp/127.0.0.1/"$2"; exec 3>&-; i=$((i+1)); echo; done`
	stop := filepath.Join(c.t.TempDir(), "stop")
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	b.cmd = exec.CommandContext(c.t.Context(), "bash", "-c", script, "bash", dir, port, stop)
	in, err := b.cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			b.execs.Add(1)
		}
	}()
	// The shell is in the sandbox before it is watched, so that all that it does is seen.
	waitFor(c.t, "the shell in its cgroup", func() bool {
		text, err := os.ReadFile(dir + "/cgroup.procs")
		return err == nil && len(text) > 0
	})
	b.end = func() {
		c.t.Helper()
		if err := os.WriteFile(stop, nil, 0o600); err != nil {
			c.t.Fatal(err)
		}
		<-counted
		if err := b.cmd.Wait(); err != nil {
			c.t.Errorf("the load: %v", err)
		}
	}
	c.t.Cleanup(func() { _ = in.Close() })
	if _, err := fmt.Fprintln(in); err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (b *busy) reach(t *testing.T, n int64) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d rounds of the load", n), func() bool { return b.execs.Load() >= n })
}

// TestKernelCollectKilled kills the daemon again and again while programs are executed and connections made, and counts
// what the journal has of them: all, and nothing twice.
func TestKernelCollectKilled(t *testing.T) {
	c, pins := pinning(t, "")
	dir := c.mkdir("agent-busy")
	c.start()
	waitFor(t, "the sandbox to be watched", func() bool {
		text, err := os.ReadFile(c.events)
		return err == nil && strings.Contains(string(text), "agent-busy")
	})
	load := c.busy(dir)
	for range 4 {
		load.reach(t, load.execs.Load()+100)
		c.kill()
		load.reach(t, load.execs.Load()+30) // while nobody reads
		c.start()
	}
	c.logs("took over from another collector")
	load.reach(t, load.execs.Load()+30)
	load.end()
	c.terminate()
	seen, connects, lost, takeovers := map[string]int{}, int64(0), 0, 0
	for _, l := range c.kept() {
		switch l.Event {
		case "watchglass.process.exec":
			if args := l.args(); len(args) == 2 && args[0] == "/bin/true" {
				seen[args[1]]++
			}
		case "watchglass.network.connect":
			connects++
		case "watchglass.telemetry.takeover":
			takeovers++
			if l.Attributes["watchglass.takeover.how"] != "adopted" || l.Attributes["watchglass.takeover.ring"] != "continued" {
				t.Errorf("a takeover: %v", l.Attributes)
			}
		case "watchglass.telemetry.loss":
			lost++
			t.Logf("a loss: %v", l.Attributes)
			if l.Attributes["watchglass.loss.stage"] == "ring" {
				t.Error("more was done than the ring takes")
			}
		}
	}
	for i := range load.execs.Load() {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("execution %d of %d is kept %d times", i, load.execs.Load(), n)
		}
	}
	if takeovers != 4 {
		t.Errorf("%d takeovers are told, of 4", takeovers)
	}
	if connects != load.connects.Load() {
		t.Errorf("%d of %d connects are kept", connects, load.connects.Load())
	}
	if entries, err := os.ReadDir(pins); err != nil || len(entries) != 0 {
		t.Errorf("after an orderly stop there are pins: %v, %v", entries, err)
	}
	t.Logf("%d executions, %d connects, %d losses told", load.execs.Load(), connects, lost)
}
