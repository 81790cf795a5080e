// SPDX-License-Identifier: Apache-2.0

package adversary

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// beside makes an attempt in one of two sandboxes of one collector, and has another script run in the other one: what is
// told of either. One collector, since what they share in the kernel is what the attempt is about.
func beside(t *testing.T, a *attempt, by tools) (told, other []line) {
	t.Helper()
	home := t.TempDir()
	env, secret := place(t, home)
	top := filepath.Join(cgroup2(t), fmt.Sprintf("adversary-%d-%d", os.Getpid(), time.Now().UnixNano()))
	cgroups := []string{filepath.Join(top, "attacker"), filepath.Join(top, "other")}
	for _, dir := range append([]string{top}, cgroups...) {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { removeCgroup(t, dir) })
	}
	events := filepath.Join(t.TempDir(), "events.jsonl")
	stop := collect(t, by.watchglass(), fmt.Sprintf(
		"sandboxes: {cgroups: [\"/%s/*\"]}\njournal: {enabled: false}\nexporters: {json: {enabled: true, path: %q}, prometheus: {enabled: false}}\n%s",
		filepath.Base(top), events, a.configuration()))
	env = append(append(env, by.environment()...), "HOME="+home, "TMPDIR="+home, "SECRET="+secret)
	var both sync.WaitGroup
	for i, script := range []string{a.script, a.beside} {
		both.Go(func() {
			if out, err := inside(t, cgroups[i], script, env); err != nil {
				t.Errorf("the attempt itself fails in %s: %v\n%s", filepath.Base(cgroups[i]), err, out)
			}
		})
	}
	both.Wait()
	stop()
	all := read(t, events)
	if wrong := otherPlans(all); len(wrong) > 0 {
		t.Errorf("not seen as it should be: %q", wrong)
	}
	for _, l := range all {
		switch l.Resource["watchglass.sandbox.name"] {
		case "attacker":
			told = append(told, l)
		case "other":
			other = append(other, l)
		}
	}
	return told, other
}

// collect runs a collector until stop, which ends it in order.
func collect(t *testing.T, binary, config string) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := exec.CommandContext(t.Context(), binary, "collect", "--config", file)
	var said bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &said, 10*time.Second
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready.LocalAddr().String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := ready.SetReadDeadline(time.Now().Add(longest() / 3)); err != nil {
		t.Fatal(err)
	}
	for state := make([]byte, 256); ; {
		n, err := ready.Read(state)
		if err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("the collector does not get ready: %v\n%s", err, said.String())
		}
		if strings.Contains(string(state[:n]), "READY=1") {
			break
		}
	}
	return func() {
		t.Helper()
		if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
			t.Fatalf("the collector ends with %v\n%s", err, said.String())
		}
	}
}

// inside runs a script that is born in a cgroup.
func inside(t *testing.T, cgroup, script string, env []string) (string, error) {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Env, cmd.WaitDelay = append(os.Environ(), env...), 10*time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	for _, v := range env {
		if home, ok := strings.CutPrefix(v, "HOME="); ok {
			cmd.Dir = home
		}
	}
	timer := time.AfterFunc(longest(), func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// cgroup2 is where the cgroup2 hierarchy is mounted.
func cgroup2(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if fields := strings.Fields(l); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	t.Fatal("no cgroup2 is mounted")
	return ""
}

func removeCgroup(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("removing %s: %v", dir, err)
			return
		}
	}
}
