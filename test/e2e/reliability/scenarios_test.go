// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/watchglass/watchglass/test/e2e/backend"
)

// patience is how long a destination may take to catch up. It takes seconds; on a busy machine it takes more.
const patience = 8 * time.Minute

// sink is the real backend: it writes what arrives into a file.
type sink struct {
	stage                *stage
	address, httpAddress string
	config, file         string
	collector            *backend.Collector
}

func newSink(t *testing.T, s *stage) *sink {
	t.Helper()
	k := &sink{stage: s, address: freeAddress(t), httpAddress: freeAddress(t), config: filepath.Join(s.dir, "otelcol.yaml"), file: filepath.Join(s.dir, "arrived")}
	if err := os.WriteFile(k.config, []byte(backend.FileConfig(k.address, k.httpAddress, k.file)), 0o600); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *sink) start(t *testing.T) {
	t.Helper()
	var err error
	if k.collector, err = backend.Start(k.stage.otelcol, k.address, k.config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.collector.Kill)
}

// TestBackendDown: the backend goes away under load, and comes back.
func TestBackendDown(t *testing.T) {
	s := newStage(t)
	k := newSink(t, s)
	k.start(t)
	n := newNode(t, s, fmt.Sprintf("{endpoint: http://%s, retry: {initial: 200ms, max: 2s}}", k.address), "1048576")
	n.start(t)
	begin := time.Now()
	w := startLoad(t, s, n.cgroup)
	time.Sleep(3 * time.Second)
	k.collector.Stop()
	time.Sleep(s.scale.outage)
	k.start(t)
	time.Sleep(2 * time.Second)
	w.stop(t)
	took := time.Since(begin)
	drain := n.drained(t, patience)
	n.stop(t)
	k.collector.Stop()
	r := verify(t, n, w, read(t, k.file))
	r.seconds, r.drain = took.Seconds(), drain.Seconds()
	report(t, r, fmt.Sprintf("The backend is down for %v under load, then back.", s.scale.outage))
	if r.lost != 0 {
		t.Errorf("%d events were lost although the journal had room: %v", r.lost, r.losses)
	}
}

// TestCollectorKilled: the collector is killed at random moments under load, and started again.
func TestCollectorKilled(t *testing.T) {
	s := newStage(t)
	k := newSink(t, s)
	k.start(t)
	n := newNode(t, s, fmt.Sprintf("{endpoint: http://%s, retry: {initial: 200ms, max: 2s}}", k.address), "1048576")
	n.start(t)
	begin := time.Now()
	w := startLoad(t, s, n.cgroup)
	for range s.scale.kills {
		time.Sleep(time.Second + rand.N(3*time.Second))
		n.kill(t)
		n.start(t)
	}
	time.Sleep(2 * time.Second)
	w.stop(t)
	took := time.Since(begin)
	drain := n.drained(t, patience)
	n.stop(t)
	k.collector.Stop()
	r := verify(t, n, w, read(t, k.file))
	r.seconds, r.drain = took.Seconds(), drain.Seconds()
	report(t, r, fmt.Sprintf("The collector is killed %d times at random moments under load, with SIGKILL, and started again.", s.scale.kills))
}

// TestDiskFull: the backend is away and the journal's disk fills up; then there is room again, and the backend is back.
func TestDiskFull(t *testing.T) {
	s := newStage(t)
	k := newSink(t, s)
	n := newNode(t, s, fmt.Sprintf("{endpoint: http://%s, retry: {initial: 200ms, max: 2s}}", k.address), "131072, memory_bytes: 1048576")
	if err := os.Mkdir(n.journal, 0o700); err != nil {
		t.Fatal(err)
	}
	// Smaller than the journal believes that it may be.
	if output, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m", "none", n.journal).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, output)
	}
	t.Cleanup(func() { _ = exec.Command("umount", n.journal).Run() })
	n.start(t)
	begin := time.Now()
	w := startLoad(t, s, n.cgroup)
	time.Sleep(s.scale.diskUp)
	k.start(t)
	if output, err := exec.Command("mount", "-o", "remount,size=64m", n.journal).CombinedOutput(); err != nil {
		t.Fatalf("make room: %v\n%s", err, output)
	}
	time.Sleep(5 * time.Second)
	w.stop(t)
	took := time.Since(begin)
	drain := n.drained(t, patience)
	n.stop(t)
	k.collector.Stop()
	r := verify(t, n, w, read(t, k.file))
	r.seconds, r.drain = took.Seconds(), drain.Seconds()
	report(t, r, "The journal's disk, of 2 MB, is full while the backend is away; then there is room again, and the backend is back.")
	if r.lost == 0 {
		t.Error("nothing was lost: the disk was not full, and the scenario tests nothing")
	}
}

// size is how much arrived, in bytes.
func (k *sink) size(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(k.file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
