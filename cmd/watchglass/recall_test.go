// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestKernelCollectRecalls kills the daemon while a tool of an agent is at work, whose ancestors are over: the next one
// knows its call and its ancestors, as told before, and so does what it starts.
func TestKernelCollectRecalls(t *testing.T) {
	c, _ := pinning(t, "")
	sandbox, dir := c.mkdir("agent-recalled"), t.TempDir()
	c.start()
	waitFor(t, "the sandbox to be watched", func() bool {
		text, err := os.ReadFile(c.events)
		return err == nil && strings.Contains(string(text), "agent-recalled")
	})
	shell, err := os.ReadFile("/bin/bash")
	if err != nil {
		t.Fatal(err)
	}
	codex := filepath.Join(dir, "codex")
	if err := os.WriteFile(codex, shell, 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"call":  "/bin/sh " + dir + "/inner >/dev/null 2>&1 &\n",
		"inner": "while [ ! -e " + dir + "/killed ]; do sleep 0.05; done; cat " + dir + "/call; : >" + dir + "/done\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cgroup, err := os.Open(sandbox)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cgroup.Close() }()
	const thread = "thread-0000000000000007"
	cmd := exec.CommandContext(t.Context(), codex, "-c", "CODEX_TOOL_CALL_ID=call_7 CODEX_THREAD_ID="+thread+" /bin/sh "+dir+"/call; exit 0")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// The agent and the call's first process are over. Once that is written down:
	waitFor(t, "their ends to be kept", func() bool {
		ended := 0
		for _, l := range c.kept() {
			if name := l.Attributes["process.executable.name"]; l.Event == "watchglass.process.exit" && (name == "codex" || name == "sh" || name == "dash") {
				ended++
			}
		}
		return ended >= 2
	})
	c.kill()
	c.start()
	c.logs("recalled processes from the journal")
	if err := os.WriteFile(filepath.Join(dir, "killed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the tool to end", func() bool {
		_, err := os.Stat(filepath.Join(dir, "done"))
		return err == nil
	})
	c.terminate()
	list := c.kept()
	i := slices.IndexFunc(list, func(l line) bool {
		args := l.args()
		return l.Event == "watchglass.process.exec" && len(args) == 2 && args[0] == "cat"
	})
	if i < 0 {
		t.Fatal("what the tool did after the restart was not seen")
	}
	for key, want := range map[string]string{
		"gen_ai.tool.call.id": "call_7", "gen_ai.conversation.id": thread, "gen_ai.agent.name": "codex",
	} {
		if got := list[i].Attributes[key]; got != want {
			t.Errorf("of what the tool starts after the restart %s is %v, want %s", key, got, want)
		}
	}
	if ancestry := fmt.Sprint(list[i].Attributes["watchglass.process.ancestry"]); !strings.Contains(ancestry, "codex") {
		t.Errorf("its ancestors are %s, want the agent among them", ancestry)
	}
}
