// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/watchglass/watchglass/event"
)

// TestKernelScopeOfOpens watches a cgroup in a sandbox, and no longer, while a process of it opens one file after the other:
// where calls are counted, what an open is told of is known from those before.
func TestKernelScopeOfOpens(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.SyscallCounts = CountOn
	w := startWatchWith(t, cfg)
	inner := makeCgroup(t, filepath.Join(w.cgroup, "inner"))
	id := cgroupID(t, inner)
	cmd := exec.Command("/bin/sh", "-c", `while read file; do : <"$file"; done`)
	orders, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	startIn(t, inner, cmd)
	t.Cleanup(func() {
		if err := errors.Join(orders.Close(), cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	dir, files := t.TempDir(), 0
	check := func(when string, want uint64) {
		t.Helper()
		// More than one, so that more than one processor may know it.
		for range 3 {
			file := filepath.Join(dir, fmt.Sprintf("file-%d", files))
			files++
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(orders, file+"\n"); err != nil {
				t.Fatal(err)
			}
			opens := w.awaitUntil(func(r *Record) bool {
				open, ok := r.Payload.(*event.FileOpen)
				return ok && int(r.Task.PID) == cmd.Process.Pid && open.Path == file
			}, func(picked []*Record) bool { return len(picked) > 0 })
			if len(opens) != 1 || opens[0].Sandbox != want {
				t.Fatalf("%s, %d opens of %s were told, want one, of sandbox %d: %+v", when, len(opens), file, want, opens)
			}
		}
	}
	check("with the outer alone", w.id)
	for range 3 {
		if err := w.tracer.Track(id); err != nil {
			t.Fatal(err)
		}
		check("with the inner tracked too", id)
		if err := w.tracer.Untrack(id); err != nil {
			t.Fatal(err)
		}
		check("with the outer alone again", w.id)
	}
}
