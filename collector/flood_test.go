// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// neighbour is a second sandbox beside that of a session.
func (s *kernelSession) neighbour(t *testing.T, registry *sandbox.Registry) *sandbox.Leaf {
	t.Helper()
	mount, err := sandbox.FindMount()
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	leaf, err := sandbox.NewLeaf(mount, fmt.Sprintf("test-quiet-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = leaf.Kill(); _ = leaf.Remove(context.Background()) })
	if _, err := registry.Add(event.Sandbox{Name: "quiet", Runtime: sandbox.RuntimeRun, Cgroup: leaf.Path, CgroupID: leaf.ID}); err != nil {
		t.Fatal(err)
	}
	return leaf
}

// TestKernelFlood has one sandbox open files a known number of times, far beyond its budget, and another do its quiet work
// meanwhile. Each open of the first is told or told as lost, by its name and for the interval in which it was, within 5 s;
// of the second nothing is lost.
func TestKernelFlood(t *testing.T) {
	const opens = 30000
	cfg := bpf.DefaultConfig()
	cfg.BulkBudget = 1 << 20 // far more than the quiet one sends, far less than the other
	var registry *sandbox.Registry
	s := startKernelSessionOn(t, cfg, func(settings *Settings) {
		registry = settings.Sandboxes.(*sandbox.Registry)
	})
	quiet := s.neighbour(t, registry)
	dir := t.TempDir()
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			cmd := exec.Command("/bin/cat", "/etc/hostname")
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: quiet.FD()}
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	s.run(t, fmt.Sprintf(`i=0; while [ $i -lt %d ]; do : <"%s/$((i%%100))"; i=$((i+1)); done`, opens, dir))
	<-done
	s.settle(t)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	var told, lost, quietExecs uint64
	for _, e := range s.exporter.got() {
		switch p := e.Payload.(type) {
		case *event.FileOpen:
			if strings.HasPrefix(p.Path, dir) {
				told++
			}
		case *event.ProcessExec:
			if e.Sandbox.CgroupID == quiet.ID {
				quietExecs++
			}
		case *event.Loss:
			if e.Sandbox == nil || e.Sandbox.CgroupID != s.leaf.ID || p.Reason != "budget" {
				t.Errorf("a loss of somebody or something else: %+v of %v", p, e.Sandbox)
			}
			if took := e.Time.Sub(p.Since); p.Since.IsZero() || took <= 0 || took > 5*time.Second {
				t.Errorf("a loss is told for %v", took)
			}
			if p.Lost == string(event.KindFileOpen) {
				lost += p.Count
			}
		}
	}
	if told+lost != opens || lost == 0 {
		t.Errorf("of %d opens %d are told and %d told as lost", opens, told, lost)
	}
	if quietExecs != 20 {
		t.Errorf("of 20 executions in the quiet sandbox %d are told", quietExecs)
	}
	t.Logf("%d opens: %d told, %d told as lost", opens, told, lost)
}
