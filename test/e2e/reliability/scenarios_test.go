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

func newSink(t *testing.T, s *stage, name string) *sink {
	t.Helper()
	k := &sink{
		stage: s, address: freeAddress(t), httpAddress: freeAddress(t),
		config: filepath.Join(s.dir, name+".yaml"), file: filepath.Join(s.dir, name),
	}
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

// scene is a scenario under way: the real backend, a node that sends to it, and the load.
type scene struct {
	*stage
	sink        *sink
	node        *node
	load        *workload
	began       time.Time
	took, drain time.Duration
}

// newScene prepares all but the load. Without a destination the node sends to the backend by gRPC.
func newScene(t *testing.T, settings nodeSettings) *scene {
	t.Helper()
	return newSceneOn(t, newStage(t), settings)
}

func newSceneOn(t *testing.T, on *stage, settings nodeSettings) *scene {
	t.Helper()
	s := &scene{stage: on}
	s.sink = newSink(t, s.stage, "arrived")
	if settings.otlp == "" {
		settings.otlp = sendTo(s.sink.address)
	}
	s.node = newNode(t, s.stage, settings)
	return s
}

// sendTo is the YAML of a destination that takes gRPC.
func sendTo(address string) string {
	return fmt.Sprintf("{endpoint: http://%s, retry: {initial: 200ms, max: 2s}}", address)
}

// begin starts the collector and the load.
func (s *scene) begin(t *testing.T) {
	t.Helper()
	s.node.start(t)
	s.began = time.Now()
	s.load = startLoad(t, s.stage, s.node.cgroup)
}

// rest ends the load.
func (s *scene) rest(t *testing.T) {
	t.Helper()
	s.load.stop(t)
	s.took = time.Since(s.began)
}

// finish waits until all that can arrive has, ends everything, and counts.
func (s *scene) finish(t *testing.T, what string) result {
	t.Helper()
	s.drain = s.node.drained(t, patience)
	s.node.stop(t)
	return s.settle(t, what)
}

// settle is finish where the node has ended already.
func (s *scene) settle(t *testing.T, what string) result {
	t.Helper()
	s.sink.collector.Stop()
	r := verify(t, s.node, s.load, read(t, s.sink.file))
	r.what, r.seconds, r.drain = what, s.took.Seconds(), s.drain.Seconds()
	report(t, r)
	return r
}

// TestBackendDown: the backend goes away under load, and comes back.
func TestBackendDown(t *testing.T) {
	s := newScene(t, nodeSettings{})
	s.sink.start(t)
	s.begin(t)
	time.Sleep(3 * time.Second)
	s.sink.collector.Stop()
	time.Sleep(s.scale.outage)
	s.sink.start(t)
	time.Sleep(2 * time.Second)
	s.rest(t)
	r := s.finish(t, fmt.Sprintf("The backend is down for %v under load, then back.", s.scale.outage))
	if r.lost != 0 {
		t.Errorf("%d events were lost although the journal had room: %v", r.lost, r.losses)
	}
}

// TestCollectorKilled: the collector is killed at random moments under load, and started again. Meanwhile it tells
// people of findings through a real Alertmanager, which is killed too, and a webhook that refuses every fourth request.
func TestCollectorKilled(t *testing.T) {
	people := newPeople(t)
	s := newScene(t, nodeSettings{exporters: people.exporters()})
	s.sink.start(t)
	people.start(t)
	s.begin(t)
	for i := range s.scale.kills {
		time.Sleep(time.Second + rand.N(3*time.Second))
		s.node.kill(t)
		if i == s.scale.kills/2 {
			people.kill()
			people.start(t)
		}
		s.node.start(t)
	}
	time.Sleep(2 * time.Second)
	s.rest(t)
	s.drain = s.node.drained(t, patience)
	people.await(t, s.node)
	s.node.stop(t)
	s.sink.collector.Stop()
	arrived := read(t, s.sink.file)
	r := verify(t, s.node, s.load, arrived)
	r.told = people.verify(t, arrived)
	r.seconds, r.drain = s.took.Seconds(), s.drain.Seconds()
	r.what = fmt.Sprintf("The collector is killed %d times at random moments under load, with SIGKILL, and started again; the Alertmanager "+
		"that it tells is killed once, and the webhook refuses every fourth request.", s.scale.kills)
	report(t, r)
}

// TestDiskFull: the backend is away and the journal's disk fills up; then there is room again, and the backend is back.
func TestDiskFull(t *testing.T) {
	s := newScene(t, nodeSettings{journal: "segment_bytes: 131072, memory_bytes: 1048576"})
	smallDisk(t, s.node, "2m")
	s.begin(t)
	time.Sleep(s.scale.diskUp)
	s.sink.start(t)
	largeDisk(t, s.node)
	time.Sleep(5 * time.Second)
	s.rest(t)
	r := s.finish(t, "The journal's disk, of 2 MB, is full while the backend is away; then there is room again, and the backend is back.")
	if r.lost == 0 {
		t.Error("nothing was lost: the disk was not full, and the scenario tests nothing")
	}
}

// TestDiskFullAtTheEnd: the disk is full still when the collector stops, so that not even its losses can be written:
// the next start accounts for them.
func TestDiskFullAtTheEnd(t *testing.T) {
	s := newScene(t, nodeSettings{journal: "segment_bytes: 131072, memory_bytes: 1048576"})
	smallDisk(t, s.node, "1500k")
	s.begin(t)
	time.Sleep(s.scale.diskUp / 2)
	s.rest(t)
	s.node.down = append(s.node.down, interval{from: time.Now()})
	if err := s.node.end(t); err != nil {
		t.Logf("the collector says so: %v", err)
	}
	largeDisk(t, s.node)
	s.sink.start(t)
	s.node.start(t)
	r := s.finish(t, "The journal's disk, of 1.5 MB, is full still when the collector stops; the next start, with room, accounts for what the last could not write.")
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
