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
	smallDisk(t, n, "2m")
	n.start(t)
	begin := time.Now()
	w := startLoad(t, s, n.cgroup)
	time.Sleep(s.scale.diskUp)
	k.start(t)
	largeDisk(t, n)
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

// TestDiskFullAtTheEnd: the disk is full still when the collector stops, so that not even its losses can be written:
// the next start accounts for them.
func TestDiskFullAtTheEnd(t *testing.T) {
	s := newStage(t)
	k := newSink(t, s)
	n := newNode(t, s, fmt.Sprintf("{endpoint: http://%s, retry: {initial: 200ms, max: 2s}}", k.address), "131072, memory_bytes: 1048576")
	smallDisk(t, n, "1500k")
	n.start(t)
	begin := time.Now()
	w := startLoad(t, s, n.cgroup)
	time.Sleep(s.scale.diskUp / 2)
	w.stop(t)
	took := time.Since(begin)
	n.down = append(n.down, interval{from: time.Now()})
	if err := n.end(t); err != nil {
		t.Logf("the collector says so: %v", err)
	}
	largeDisk(t, n)
	k.start(t)
	n.start(t)
	drain := n.drained(t, patience)
	n.stop(t)
	k.collector.Stop()
	r := verify(t, n, w, read(t, k.file))
	r.seconds, r.drain = took.Seconds(), drain.Seconds()
	report(t, r, "The journal's disk, of 1.5 MB, is full still when the collector stops; the next start, with room, accounts for what the last could not write.")
	if r.lost == 0 {
		t.Error("nothing was lost: the disk was not full, and the scenario tests nothing")
	}
}

// smallDisk puts the journal on a disk that is smaller than it believes that it may be.
func smallDisk(t *testing.T, n *node, size string) {
	t.Helper()
	if err := os.Mkdir(n.journal, 0o700); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "none", n.journal).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, output)
	}
	t.Cleanup(func() { _ = exec.Command("umount", n.journal).Run() })
}

// largeDisk gives it room.
func largeDisk(t *testing.T, n *node) {
	t.Helper()
	if output, err := exec.Command("mount", "-o", "remount,size=64m", n.journal).CombinedOutput(); err != nil {
		t.Fatalf("make room: %v\n%s", err, output)
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
