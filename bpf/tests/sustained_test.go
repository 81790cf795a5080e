// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

const (
	// floodVariable has the test binary be the process that makes the flood: rate, seconds, and the ids of the tracer's maps.
	floodVariable = "WATCHGLASS_TEST_FLOOD"
	// floodSeconds is how long each rate is kept up, floodBatch the most records that are made at once.
	floodSeconds, floodBatch = 3, 2000
	// The place of the file probe in the accounts, and its kind of opens, in the class of bulk. The benchmark looks that
	// what it counts is told by that name.
	fileSlot, fileKinds, fileOpenKind = 9, 4, 1
	fileProbe                         = 2
	// readerNice is the nice value that the collector gives itself.
	readerNice = -10
)

// floodSandboxes is the sandboxes that send; they are all that are known.
type floodSandboxes map[uint64]*event.Sandbox

func (f floodSandboxes) Lookup(id uint64) *event.Sandbox    { return f[id] }
func (f floodSandboxes) Made(uint64, string) *event.Sandbox { return nil }
func (f floodSandboxes) Gone(uint64) *event.Sandbox         { return nil }
func (f floodSandboxes) Refused() uint64                    { return 0 }
func (f floodSandboxes) Sandboxes() (all []*event.Sandbox) {
	for _, s := range f {
		all = append(all, s)
	}
	return all
}

// BenchmarkKernelSustained reads records from the ring while another process makes them at a steady rate, decodes each, joins
// it to its process and sandbox and publishes its event, on one core (-cpu 1) that the other process does not use, with the
// nice value that the collector gives itself: everything that the collector is but detectors and exporters, in the default
// configuration. Sixteen sandboxes send, so that none spends its budget. Metrics:
// events/s that arrived, how many were lost, and how many a second of processor time would do, the garbage collector's included.
func BenchmarkKernelSustained(b *testing.B) {
	testenv.RequireEBPF(b)
	if err := keepTo(func(cpu int) bool { return cpu == 0 }, readerNice); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := keepTo(func(int) bool { return true }, 0); err != nil {
			b.Error(err)
		}
	})
	for _, rate := range []int{1_000_000, 1_500_000, 2_000_000} {
		b.Run(strconv.Itoa(rate), func(b *testing.B) {
			for range b.N {
				sustain(b, rate)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// keepTo has all threads of this process run on some of the processors only, with a nice value. Threads and processes made
// later inherit both.
func keepTo(runs func(cpu int) bool, nice int) error {
	// Not those that it may run on now: it may have been kept to some already.
	processors, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("counting processors: %w", err)
	}
	var set unix.CPUSet
	for cpu := range processors {
		if runs(cpu) || processors == 1 {
			set.Set(cpu)
		}
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("listing the threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return fmt.Errorf("reading a thread's id: %w", err)
		}
		err = errors.Join(unix.SchedSetaffinity(id, &set), unix.Setpriority(unix.PRIO_PROCESS, id, nice))
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("keeping a thread to its processors: %w", err)
		}
	}
	return nil
}

// sustain has a flood of a rate told, and reports what became of it.
func sustain(b *testing.B, rate int) {
	b.Helper()
	cfg := bpf.DefaultConfig()
	tracer, err := bpf.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer tracer.Close()
	sandboxes := floodSandboxes{}
	var ids []string
	for i := range len(floodFloodRoom{}.Sandboxes) {
		id := floodCgroup(b)
		if err := tracer.Track(id); err != nil {
			b.Fatal(err)
		}
		sandboxes[id] = &event.Sandbox{ID: strconv.Itoa(i), CgroupID: id, Started: time.Now()}
		ids = append(ids, strconv.FormatUint(id, 10))
	}
	var published atomic.Uint64
	pipeline, err := collector.New(collector.Settings{
		Source: tracer, Sandboxes: sandboxes, Logger: slog.New(slog.DiscardHandler), BootID: "flood",
		Classify: func(string) event.FileClass { return event.FileClassSystem },
		Produced: func(uint64) { published.Add(1) },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- pipeline.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()
	<-pipeline.Begun()

	before, used := published.Load(), processorTime(b)
	args := append([]string{strconv.Itoa(rate), strconv.Itoa(floodSeconds), heldMapIDs(b)}, ids...)
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestHelperFlood$", "--"}, args...)...)
	cmd.Env = append(os.Environ(), floodVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("making the flood: %v\n%s", err, out)
	}
	ended := time.Now()
	var flooded float64
	if _, err := fmt.Sscan(string(out), &flooded); err != nil {
		b.Fatalf("how long did the flood take? %v\n%s", err, out)
	}
	seen, lost := floodCounts(b, tracer)
	for deadline := time.Now().Add(30 * time.Second); published.Load()-before < seen-lost; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("of %d records, %d of which were lost, %d arrive", seen, lost, published.Load()-before)
		}
	}
	b.ReportMetric(float64(seen-lost)/(flooded+time.Since(ended).Seconds()), "events/s")
	b.ReportMetric(float64(seen-lost)/(processorTime(b)-used).Seconds(), "events/cpu-s")
	b.ReportMetric(float64(lost), "lost")
}

// floodCgroup makes a cgroup for nobody.
func floodCgroup(b *testing.B) uint64 {
	b.Helper()
	mount, err := sandbox.FindMount()
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp(mount.Dir, "watchglass-flood-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			b.Error(err)
		}
	})
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		b.Fatal(err)
	}
	return stat.Ino
}

// heldMapIDs finds the tracer's ring and its accounts among the maps that this process holds: nothing shows them.
func heldMapIDs(b *testing.B) string {
	b.Helper()
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		b.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range files {
		text, _ := os.ReadFile(file) // the folder's own is gone
		for line := range strings.Lines(string(text)) {
			value, isID := strings.CutPrefix(line, "map_id:")
			if !isID {
				continue
			}
			id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if err != nil {
				b.Fatal(err)
			}
			m, err := ebpf.NewMapFromID(ebpf.MapID(id))
			if err != nil {
				b.Fatal(err)
			}
			if info, err := m.Info(); err == nil {
				found[info.Name] = strconv.FormatUint(id, 10)
			}
			_ = m.Close()
		}
	}
	if found["events"] == "" || found["event_counts"] == "" {
		b.Fatalf("the tracer's maps are not among %v", found)
	}
	return found["events"] + "," + found["event_counts"]
}

// floodCounts is how many records the kernel side saw, and how many of them were lost.
func floodCounts(b *testing.B, tracer *bpf.Tracer) (seen, lost uint64) {
	b.Helper()
	counts, err := tracer.Counts()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range counts {
		if c.Sandbox == 0 || c.Seen == 0 {
			continue
		}
		if c.Kind != string(event.KindFileOpen) {
			b.Fatalf("the flood is counted as %s", c.Kind)
		}
		seen, lost = seen+c.Seen, lost+c.Dropped+c.Throttled
	}
	return seen, lost
}

// processorTime is what this process used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// TestHelperFlood is no test: it is the process that makes the flood.
func TestHelperFlood(t *testing.T) {
	if os.Getenv(floodVariable) == "" {
		return
	}
	if err := keepTo(func(cpu int) bool { return cpu != 0 }, 0); err != nil {
		t.Fatal(err)
	}
	args := os.Args
	for args[0] != "--" {
		args = args[1:]
	}
	if err := makeFlood(args[1:]); err != nil {
		t.Fatal(err)
	}
}

// makeFlood makes records: so many a second, for so many seconds, in these maps, of these sandboxes.
func makeFlood(args []string) error {
	rate, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(args[1], 64)
	if err != nil {
		return err
	}
	collection, err := loadFloodInto(strings.Split(args[2], ","))
	if err != nil {
		return err
	}
	defer collection.Close()
	what, err := fillFlood(collection.Maps["flood_rooms"], args[3:])
	if err != nil {
		return err
	}
	made := 0
	for began := time.Now(); ; {
		elapsed := time.Since(began).Seconds()
		due := min(int(rate*min(elapsed, seconds))-made, floodBatch)
		if due == 0 {
			if elapsed >= seconds {
				fmt.Println(elapsed)
				return nil
			}
			time.Sleep(100 * time.Microsecond)
			continue
		}
		what.Count = uint64(due)
		if _, err := collection.Programs["test_flood"].Run(&ebpf.RunOptions{Context: what}); err != nil {
			return fmt.Errorf("making records: %w", err)
		}
		made += due
	}
}

// loadFloodInto loads the program over another's ring and accounts, with the bounds of the default configuration.
func loadFloodInto(ids []string) (*ebpf.Collection, error) {
	spec, err := loadFlood()
	if err != nil {
		return nil, err
	}
	replace := map[string]*ebpf.Map{}
	for i, name := range []string{"events", "event_counts"} {
		id, err := strconv.ParseUint(ids[i], 10, 32)
		if err != nil {
			return nil, err
		}
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if err != nil {
			return nil, fmt.Errorf("opening map %s: %w", name, err)
		}
		spec.Maps[name].MaxEntries, replace[name] = m.MaxEntries(), m
	}
	cfg, ring := bpf.DefaultConfig(), replace["events"].MaxEntries()
	for name, value := range map[string]any{
		"probe_index": uint16(fileProbe), "event_slot": uint16(fileSlot), "event_kinds": uint16(fileKinds),
		"event_wake_bytes": ring / 16, "event_limits": [2]uint32{ring / 4 * 3, ring / 16 * 15},
		"event_budgets": [2]uint64{uint64(cfg.BulkBudget / 10), uint64(cfg.KeptBudget / 10)},
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace})
}

// fillFlood enters a recorded open, and who sends it.
func fillFlood(rooms *ebpf.Map, sandboxes []string) (*floodFlood, error) {
	data, err := os.ReadFile("../testdata/records/file-fileopen.bin")
	if err != nil {
		return nil, err
	}
	var room floodFloodRoom
	whole := make([]byte, binary.Size(room))
	copy(whole, data)
	if err := binary.Read(bytes.NewReader(whole), binary.NativeEndian, &room); err != nil {
		return nil, err
	}
	room.Header.Probe = fileProbe
	for i := range room.Sandboxes {
		if room.Sandboxes[i], err = strconv.ParseUint(sandboxes[i], 10, 64); err != nil {
			return nil, err
		}
	}
	what := &floodFlood{What: fileOpenKind, Size: uint64(len(data))}
	return what, rooms.Put(uint32(0), room)
}
