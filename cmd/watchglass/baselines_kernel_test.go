// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKernelCollectLearns: what a sandbox does is learned when it ends, and is there after a restart; a sandbox that
// leaves the allow-list teaches nothing.
func TestKernelCollectLearns(t *testing.T) {
	c := prepareCollect(t)
	c.write("policy: {network: {allow: [127.0.0.2]}}\n", "/agent-*")
	learn := func(name, script string) string {
		t.Helper()
		dir := c.mkdir(name)
		c.start()
		c.in(dir, script)
		c.terminate()
		text, err := os.ReadFile(filepath.Join(filepath.Dir(c.events), "baselines"))
		if err != nil {
			t.Fatalf("%v; the log:\n%s", err, c.log)
		}
		return string(text)
	}
	first := learn("agent-1", "/bin/true")
	if !strings.Contains(first, `"sessions":1,`) {
		t.Errorf("after one session: %s", first)
	}
	second := learn("agent-2", "/bin/ls >/dev/null")
	if !strings.Contains(second, `"sessions":2,`) {
		t.Errorf("after two: %s", second)
	}
	third := learn("agent-3", "bash -c 'exec 3<>/dev/tcp/127.0.0.1/9' 2>/dev/null || true")
	if third != second {
		t.Errorf("a session with an open finding taught:\n%s\n%s", second, third)
	}
	if strings.Contains(c.log.String(), "baselines") {
		t.Errorf("the log complains:\n%s", c.log)
	}
}
