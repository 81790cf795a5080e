// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// smallDisk mounts a file system of this many bytes, with whatever options.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	testenv.RequireRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("watchglass-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		testenv.Unable(t, "cannot mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func losses(j *Journal) map[string]uint64 {
	sums := map[string]uint64{}
	for _, l := range j.Losses() {
		sums[l.Lost+" "+l.Reason] += l.Count
	}
	return sums
}

// TestDiskFull fills a real disk by other means. Findings are written all the same, everything else is held
// and then lost by count; when there is room again, all goes on, and what came plus what was lost is what was made.
func TestDiskFull(t *testing.T) {
	disk := smallDisk(t, 4<<20)
	cfg := config(filepath.Join(disk, "journal"))
	cfg.MaxBytes, cfg.PriorityBytes, cfg.MemoryBytes = 64<<20, 64<<20, 1<<20
	j := open(t, cfg, "a")
	c := cursor(t, j, "siem")
	made := uint64(20000)
	add(j, makeAll("a", 1, 200))
	ballast(t, disk)
	add(j, makeAll("a", 200, made+1))
	lost := losses(j)
	if lost["journal disk_full"] == 0 {
		t.Errorf("nothing is counted as lost: %v", lost)
	}
	must(t, os.Remove(filepath.Join(disk, "ballast")))
	add(j, makeAll("a", made+1, made+101))
	seen := drain(t, c, few)
	lost = losses(j)
	sum := uint64(len(seen))
	for _, n := range lost {
		sum += n
	}
	if sum != made+100 {
		t.Errorf("%d came and %v were lost: %d, not %d", len(seen), lost, sum, made+100)
	}
	for seq := uint64(50); seq <= made; seq += 50 {
		if seen[fmt.Sprintf("a-%d", seq)] != 1 {
			t.Errorf("finding %d is gone", seq)
		}
	}
	shut(t, j)
	if report := verified(t, cfg.Dir, proof(t, cfg.Dir)); !report.Good() {
		t.Errorf("it does not verify: %v %v", report.Lanes[0].Fault, report.Lanes[1].Fault)
	}
}

// ballast fills the disk to the last byte.
func ballast(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	must(t, err)
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// TestDiskFullAtStart: a journal that is there opens although the disk is full.
func TestDiskFullAtStart(t *testing.T) {
	disk := smallDisk(t, 2<<20)
	cfg := config(filepath.Join(disk, "journal"))
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 200))
	shut(t, j)
	ballast(t, disk)
	j = open(t, cfg, "b")
	add(j, makeAll("b", 1, 100))
	must(t, os.Remove(filepath.Join(disk, "ballast")))
	add(j, makeAll("b", 100, 200))
	shut(t, j)
	r, err := OpenReader(cfg.Dir, Query{})
	must(t, err)
	defer r.Close()
	n := 0
	for {
		_, ok, err := r.Next()
		must(t, err)
		if !ok {
			break
		}
		n++
	}
	if n != 199+199 {
		t.Errorf("%d events, not 398", n)
	}
}

func TestReadOnlyFolder(t *testing.T) {
	disk := smallDisk(t, 2<<20)
	cfg := config(filepath.Join(disk, "journal"))
	must(t, unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err := Open(cfg, settings(t, "a"))
	if err == nil || !strings.Contains(err.Error(), "read-only file system: mount it writable, or set journal.dir") {
		t.Errorf("got %v", err)
	}
}

// slowFile stands for a disk that hangs, or fails.
type slowFile struct {
	file
	hang *sync.RWMutex // held while the disk hangs
	fail *atomic.Pointer[error]
}

func (f slowFile) WriteAt(p []byte, off int64) (int, error) {
	f.hang.RLock()
	defer f.hang.RUnlock()
	if err := f.fail.Load(); err != nil {
		n, _ := f.file.WriteAt(p[:len(p)/2], off) // as a disk may: half of it
		return n, *err
	}
	return f.file.WriteAt(p, off)
}

func (f slowFile) Sync() error {
	f.hang.RLock()
	defer f.hang.RUnlock()
	if err := f.fail.Load(); err != nil {
		return *err
	}
	return f.file.Sync()
}

// oddDisk opens a journal on a disk that can be made to hang or to fail.
func oddDisk(t *testing.T, cfg Config) (*Journal, *sync.RWMutex, *atomic.Pointer[error]) {
	t.Helper()
	hang, fail := &sync.RWMutex{}, &atomic.Pointer[error]{}
	s := settings(t, "a")
	s.open = func(path string, flag int) (file, error) {
		f, err := openFile(path, flag)
		return slowFile{f, hang, fail}, err
	}
	j, err := Open(cfg, s)
	must(t, err)
	return j, hang, fail
}

// TestSlowDisk: while a write hangs, nothing that the kernel's reader does waits for it.
func TestSlowDisk(t *testing.T) {
	j, hang, _ := oddDisk(t, config(t.TempDir()))
	c := cursor(t, j, "siem")
	add(j, makeAll("a", 1, 100))
	hang.Lock()
	appended := make(chan struct{})
	go func() {
		add(j, makeAll("a", 100, 200))
		close(appended)
	}()
	time.Sleep(20 * time.Millisecond)
	done := make(chan struct{})
	go func() { // what the pipeline does under its lock
		j.Produced(500)
		_ = j.Losses()
		_ = j.Stats()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the pipeline waits for the disk")
	}
	select {
	case <-appended:
		t.Error("the disk does not hang")
	default:
	}
	hang.Unlock()
	<-appended
	if seen := drain(t, c, few); len(seen) != 199 {
		t.Errorf("%d of 199 events came", len(seen))
	}
	shut(t, j)
}

// TestFailingDisk: half-written groups are taken back, what is held is written later, and the account is right.
func TestFailingDisk(t *testing.T) {
	cfg := config(t.TempDir())
	j, _, fail := oddDisk(t, cfg)
	c := cursor(t, j, "siem")
	add(j, makeAll("a", 1, 100))
	broken := error(unix.EIO)
	fail.Store(&broken)
	add(j, makeAll("a", 100, 300))
	fail.Store(nil)
	add(j, makeAll("a", 300, 400))
	if seen := drain(t, c, few); len(seen) != 399 {
		t.Errorf("%d of 399 events came; %v", len(seen), losses(j))
	}
	fail.Store(&broken)
	for seq := uint64(400); seq < 8400; seq += 400 {
		add(j, makeAll("a", seq, seq+400))
	}
	if n := losses(j)["journal write_failed"]; n == 0 {
		t.Error("memory is not bounded")
	}
	err := j.Close()
	if err == nil || !errors.Is(err, unix.EIO) {
		t.Errorf("closing says %v", err)
	}
	again := open(t, cfg, "b")
	seen := drain(t, cursor(t, again, "siem"), few)
	// What the first start knew of and could not tell any more the second one finds out.
	if n := losses(again)["journal crash"] + uint64(len(seen)); n != 8399-399 {
		t.Errorf("%d came and %v were lost of %d", len(seen), losses(again), 8399-399)
	}
	shut(t, again)
}

// TestSyncFailure: after the disk failed to take what was written, a new segment is begun.
func TestSyncFailure(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Sync = SyncAlways
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 10))
	before := j.Stats().Lanes[Events].Segments
	j.lanes[Events].file = syncFails{j.lanes[Events].file}
	add(j, makeAll("a", 10, 20))
	stats := j.Stats()
	if stats.SyncErrors == 0 || stats.Lanes[Events].Segments <= before {
		t.Errorf("%+v", stats)
	}
	add(j, makeAll("a", 20, 30))
	shut(t, j)
	if got := readAll(t, cfg.Dir); len(got) != 29 {
		t.Errorf("%d of 29 events can be read", len(got))
	}
}

type syncFails struct{ file }

func (syncFails) Sync() error { return unix.EIO }

func TestQuarantineIsBounded(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.QuarantineBytes = 64 << 10
	j := open(t, cfg, "a")
	for seq := uint64(1); seq <= 500; seq++ {
		e := made("a", seq)
		must(t, j.Quarantine("siem", "too odd", &e))
	}
	huge := event.Encoded{Record: make([]byte, 64<<10)}
	if err := j.Quarantine("siem", "too large", &huge); err == nil {
		t.Error("an event that has no room is said to be kept")
	}
	if n := j.Stats().Quarantined; n != 501 {
		t.Errorf("%d are counted", n)
	}
	shut(t, j)
	size := int64(0)
	for _, name := range []string{quarantineName, quarantineName + ".old"} {
		info, err := os.Stat(filepath.Join(cfg.Dir, name))
		must(t, err)
		size += info.Size()
	}
	if size > cfg.QuarantineBytes || size < cfg.QuarantineBytes/4 {
		t.Errorf("the quarantine takes %d bytes", size)
	}
	text := readFile(t, filepath.Join(cfg.Dir, quarantineName))
	if !strings.Contains(text, `"reason":"too odd"`) || !strings.Contains(text, `"seq":500,`) {
		t.Errorf("the newest is not there: %.200s", text)
	}
}

// TestEvictionsDoNotFillASegment: on a full disk a new segment has nothing but what it tells of evictions, and that
// may be much. It is not full by that: the next one would have its name.
func TestEvictionsDoNotFillASegment(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 3))
	l := j.lanes[Events]
	must(t, l.rotate())
	payload := make([]byte, evictedSize)
	for l.offset <= l.cfg.SegmentBytes {
		l.unrecorded = append(l.unrecorded, payload)
		must(t, l.recordEvictions())
	}
	if n, err := l.appendEvents(makeAll("a", 3, 4)); n != 1 || err != nil {
		t.Errorf("%d events appended: %v", n, err)
	}
	shut(t, j)
}

// TestCursorOnAFullDisk: where a destination is can be written on a disk without a byte left, time and again. Else
// what was evicted, and told, would be told again by the next start.
func TestCursorOnAFullDisk(t *testing.T) {
	disk := smallDisk(t, 1<<20)
	cfg := config(filepath.Join(disk, "journal"))
	j := open(t, cfg, "a")
	c := cursor(t, j, "siem")
	add(j, makeAll("a", 1, 200))
	ballast(t, disk)
	if n := len(drain(t, c, few)); n != 199 {
		t.Fatalf("%d events came", n)
	}
	for range 5 {
		must(t, c.save())
	}
	file, err := c.readFile()
	must(t, err)
	if file.Next[Events.String()] != c.done[Events] || c.done[Events] == 0 {
		t.Errorf("the file says %v, the cursor is at %d", file.Next, c.done[Events])
	}
	must(t, os.Remove(filepath.Join(disk, "ballast")))
	shut(t, j)
}
