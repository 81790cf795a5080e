// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReap: what a child leaves behind is gone before the child ends that waits for that, and its own end is told.
func TestReap(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
	for _, c := range []struct{ script, want string }{
		{`orphan=$(sleep 0.01 >&2 & echo $!); for i in $(seq 100); do [ -e /proc/$orphan ] || exit 0; sleep 0.1; done; exit 1`, ""},
		{"exit 7", "exit status 7"},
		{"kill -KILL $$", "ended by the signal killed"},
	} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", c.script)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := reap(cmd.Process.Pid); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.script, got, c.want)
		}
	}
}
