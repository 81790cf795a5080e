// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
)

// fakeCgroup makes the files of one cgroup, given as "NAME: LINE | LINE".
func fakeCgroup(t *testing.T, dir string, files ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name, text, _ := strings.Cut(f, ": ")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, " | ", "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func sandboxAt(t *testing.T, dir, cgroup string) *event.Sandbox {
	t.Helper()
	id, err := ID(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &event.Sandbox{ID: "s", Cgroup: cgroup, CgroupID: id}
}

// v2Files is what a kernel shows where cgroup2 has all controllers.
func v2Files() []string {
	return []string{
		"cpu.stat: usage_usec 3000000 | user_usec 2000000 | system_usec 1000000 | nice_usec 0 | core_sched.force_idle_usec 0 | " +
			"nr_periods 40 | nr_throttled 30 | throttled_usec 1500000 | nr_bursts 0 | burst_usec 0",
		"cpu.max: 50000 100000",
		"memory.current: 4096", "memory.peak: 8192", "memory.max: max", "memory.swap.current: 512", "memory.swap.max: max",
		"memory.stat: anon 1024 | file 2048 | pgfault 10 | pgmajfault 3 | workingset_refault_anon 1",
		"memory.events: low 0 | high 0 | max 5 | oom 2 | oom_kill 1 | oom_group_kill 0",
		"io.stat: 8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0 | 259:1 rbytes=10 wbytes=20 rios=3 wios=4 dbytes=0 dios=0 | 7:0 ",
		"pids.current: 7", "pids.max: 100",
		"cpu.pressure: some avg10=1.00 avg60=0.50 avg300=0.10 total=2500 | full avg10=0.00 avg60=0.00 avg300=0.00 total=0",
		"memory.pressure: some avg10=0.00 avg60=0.00 avg300=0.00 total=10 | full avg10=0.00 avg60=0.00 avg300=0.00 total=4",
		"io.pressure: some avg10=0.00 avg60=0.00 avg300=0.00 total=7 | full avg10=0.00 avg60=0.00 avg300=0.00 total=6",
	}
}

func TestUsageOfUnified(t *testing.T) {
	t.Parallel()
	mount := Mount{Dir: t.TempDir(), Root: "/"}
	dir := filepath.Join(mount.Dir, "kubepods", "pod1")
	fakeCgroup(t, dir, v2Files()...)
	got, err := NewMeter(mount, nil).Read(sandboxAt(t, dir, "/kubepods/pod1"))
	if err != nil {
		t.Fatal(err)
	}
	want := &event.ResourceUsage{
		Sources: []string{"cgroup2"},
		CPU: &event.CPUUsage{
			Total: 3 * time.Second, User: 2 * time.Second, System: time.Second,
			Throttle: &event.Throttling{Periods: 40, Throttled: 30, Time: 1500 * time.Millisecond},
		},
		Memory: &event.MemoryUsage{Current: 4096, Peak: 8192, Anonymous: 1024, File: 2048, Swap: 512, MajorFaults: 3, OOMKills: 1},
		IO:     &event.IOUsage{ReadBytes: 110, WrittenBytes: 220, Reads: 4, Writes: 6},
		Tasks:  &event.TaskUsage{Current: 7, Limit: 100},
		Pressure: event.Pressures{
			CPU:    &event.Pressure{Some: 2500 * time.Microsecond},
			Memory: &event.Pressure{Some: 10 * time.Microsecond, Full: 4 * time.Microsecond},
			IO:     &event.Pressure{Some: 7 * time.Microsecond, Full: 6 * time.Microsecond},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestUsageOfHybrid: what version 2 does not count comes from version 1, and from nowhere else.
func TestUsageOfHybrid(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	mount := Mount{Dir: filepath.Join(root, "unified"), Root: "/", Hybrid: true}
	v1 := Controllers{"cpu": filepath.Join(root, "cpu,cpuacct"), "cpuacct": filepath.Join(root, "cpu,cpuacct")}
	for _, name := range []string{"memory", "blkio", "pids"} {
		v1[name] = filepath.Join(root, name)
	}
	for _, group := range []string{"docker/full", "docker/bare"} {
		fakeCgroup(t, filepath.Join(mount.Dir, group),
			"cpu.stat: usage_usec 5 | user_usec 3 | system_usec 2",
			"memory.pressure: some avg10=0.00 avg60=0.00 avg300=0.00 total=9")
	}
	fakeCgroup(t, filepath.Join(root, "cpu,cpuacct", "docker/full"), "cpu.stat: nr_periods 4 | nr_throttled 2 | throttled_time 7000")
	if err := os.Symlink("cpu,cpuacct", filepath.Join(root, "cpu")); err != nil {
		t.Fatal(err)
	}
	fakeCgroup(t, filepath.Join(root, "memory", "docker/full"),
		"memory.stat: rss 1 | cache 2 | total_rss 100 | total_cache 200 | total_pgmajfault 3 | hierarchical_memory_limit 9223372036854771712",
		"memory.oom_control: oom_kill_disable 0 | under_oom 0 | oom_kill 6",
		"memory.usage_in_bytes: 300", "memory.max_usage_in_bytes: 400", "memory.failcnt: 0", "memory.limit_in_bytes: 9223372036854771712")
	fakeCgroup(t, filepath.Join(root, "blkio", "docker/full"),
		"blkio.throttle.io_service_bytes: 8:0 Read 10 | 8:0 Write 20 | 8:0 Total 30 | Total 30",
		"blkio.throttle.io_serviced: 8:0 Read 1 | 8:0 Write 2 | 8:0 Total 3 | Total 3")
	fakeCgroup(t, filepath.Join(root, "pids", "docker/full"), "pids.current: 2", "pids.max: max")
	meter := NewMeter(mount, v1)
	for group, want := range map[string]*event.ResourceUsage{
		"/docker/full": {
			Sources: []string{"cgroup2", "cgroup1"},
			CPU: &event.CPUUsage{
				Total: 5 * time.Microsecond, User: 3 * time.Microsecond, System: 2 * time.Microsecond,
				Throttle: &event.Throttling{Periods: 4, Throttled: 2, Time: 7 * time.Microsecond},
			},
			Memory: &event.MemoryUsage{Current: 300, Peak: 400, Anonymous: 100, File: 200, MajorFaults: 3, OOMKills: 6},
			IO:     &event.IOUsage{ReadBytes: 10, WrittenBytes: 20, Reads: 1, Writes: 2},
			Tasks:  &event.TaskUsage{Current: 2},
		},
		// As `watchglass run` makes it: no cgroup of version 1 has its path, and nothing stands in for what they would count.
		"/docker/bare": {
			Sources: []string{"cgroup2"},
			CPU:     &event.CPUUsage{Total: 5 * time.Microsecond, User: 3 * time.Microsecond, System: 2 * time.Microsecond},
		},
	} {
		want.Pressure.Memory = &event.Pressure{Some: 9 * time.Microsecond}
		got, err := meter.Read(sandboxAt(t, filepath.Join(mount.Dir, group), group))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", group, diff)
		}
	}
}

// TestUsageOfPartOfTheHierarchy: where only a part is mounted, paths are those of the whole.
func TestUsageOfPartOfTheHierarchy(t *testing.T) {
	t.Parallel()
	mount := Mount{Dir: t.TempDir(), Root: "/kubepods"}
	fakeCgroup(t, filepath.Join(mount.Dir, "pod1"), "cpu.stat: usage_usec 5 | user_usec 3 | system_usec 2")
	meter := NewMeter(mount, nil)
	if u, err := meter.Read(sandboxAt(t, filepath.Join(mount.Dir, "pod1"), "/kubepods/pod1")); err != nil || u.CPU == nil {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := meter.Read(sandboxAt(t, filepath.Join(mount.Dir, "pod1"), "/system.slice/x")); err == nil {
		t.Error("read a cgroup that is not below the mount")
	}
}

func TestUsageOfWhatIsGone(t *testing.T) {
	t.Parallel()
	mount := Mount{Dir: t.TempDir(), Root: "/"}
	dir := filepath.Join(mount.Dir, "a")
	fakeCgroup(t, dir, "cpu.stat: usage_usec 5")
	s := sandboxAt(t, dir, "/a")
	meter := NewMeter(mount, nil)
	s.CgroupID++ // another cgroup took its place
	if _, err := meter.Read(s); !errors.Is(err, ErrGone) {
		t.Errorf("of another cgroup: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := meter.Read(s); !errors.Is(err, ErrGone) {
		t.Errorf("of none: %v", err)
	}
}

func TestParseControllers(t *testing.T) {
	t.Parallel()
	const mounts = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 31 0:30 /docker /mnt/part rw,relatime - cgroup cgroup rw,pids
35 31 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
36 31 0:30 / /elsewhere rw - cgroup cgroup ro,memory
broken
`
	got, err := ParseControllers(strings.NewReader(mounts))
	if err != nil {
		t.Fatal(err)
	}
	want := Controllers{
		"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParsePressure(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*event.Pressure{
		"":                                       nil,
		"some avg10=0.00":                        nil,
		"some total=-1\nfull total=x":            nil,
		"none avg10=0 total=5":                   nil,
		"some avg10=0 total=5":                   {Some: 5 * time.Microsecond},
		"full total=6\nsome total=7\n":           {Some: 7 * time.Microsecond, Full: 6 * time.Microsecond},
		"some total=18446744073709551615":        {Some: math.MaxInt64 / 1000 * time.Microsecond},
		"some total=99999999999999999999999999":  nil,
		"some avg10=0.00 total=5 total=9\nfull ": nil,
	} {
		if diff := cmp.Diff(want, parsePressure(text)); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]uint64{
		0: 0, 4096: 4096, 1 << 40: 1 << 40, math.MaxUint64: 0,
		math.MaxInt64 &^ 4095: 0, math.MaxInt64 &^ 65535: 0, // version 1 with pages of 4 and 64 KiB
	} {
		if got := limit(n); got != want {
			t.Errorf("%d is a limit of %d, want %d", n, got, want)
		}
	}
}

// TestKernelUsage lets a real program burn a known amount of processor time in a leaf, and in cgroups of
// the same path of those version 1 controllers that can be written to.
func TestKernelUsage(t *testing.T) {
	mount := realMount(t)
	l := newTestLeaf(t, mount)
	controllers, err := FindControllers()
	if err != nil {
		t.Fatal(err)
	}
	var homes []string
	for _, name := range []string{"memory", "pids", "cpu"} {
		dir := filepath.Join(controllers[name], l.Path)
		if controllers[name] == "" || os.MkdirAll(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			for range 100 {
				if os.Remove(dir) == nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			_ = os.Remove(filepath.Dir(dir))
		})
		homes = append(homes, filepath.Join(dir, "cgroup.procs"))
	}
	s := &event.Sandbox{ID: "s", Cgroup: l.Path, CgroupID: l.ID}
	meter := NewMeter(mount, controllers)
	before, err := meter.Read(s)
	if err != nil {
		t.Fatal(err)
	}
	if before.CPU == nil || before.CPU.Total > 100*time.Millisecond {
		t.Errorf("an empty leaf used %+v", before.CPU)
	}
	script := "for f in " + strings.Join(homes, " ") + "; do echo 0 > $f || exit 9; done; " +
		"head -c 64M /dev/zero | sha256sum >/dev/null; x=$(head -c 16M /dev/zero | tr '\\0' x); echo ready; read _; echo ${#x} >/dev/null"
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: l.FD()}
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatalf("the workload: %v", err)
	}
	after, err := meter.Read(s)
	_ = in.Close()
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	var times syscall.Rusage
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		times = *r
	}
	used := time.Duration(times.Utime.Nano() + times.Stime.Nano())
	if got := after.CPU.Total; got < used/2 || got > used*2+50*time.Millisecond {
		t.Errorf("used %v of processor time, the process itself %v", got, used)
	}
	if sum := after.CPU.User + after.CPU.System; sum < after.CPU.Total*9/10 || sum > after.CPU.Total*11/10 {
		t.Errorf("user %v and system %v make %v", after.CPU.User, after.CPU.System, after.CPU.Total)
	}
	if _, err := os.Stat("/proc/pressure/cpu"); (err == nil) != (after.Pressure.CPU != nil) {
		t.Errorf("pressure %+v, /proc/pressure: %v", after.Pressure.CPU, err)
	}
	if hasController(t, mount, "memory") || controllers["memory"] != "" && len(homes) > 0 {
		if m := after.Memory; m == nil || m.Anonymous < 16<<20 || m.Current < m.Anonymous || m.Limit != 0 {
			t.Errorf("16 MiB of memory in use, and counted: %+v", m)
		}
	} else if after.Memory != nil {
		t.Errorf("no controller counts memory, and yet %+v", after.Memory)
	}
	if after.Tasks != nil && after.Tasks.Current != 1 {
		t.Errorf("%s tasks, want 1", strconv.FormatUint(after.Tasks.Current, 10))
	}
	t.Logf("%v from %v: %s", homes, after.Sources, after.AppendBody(nil))
}

func hasController(t *testing.T, m Mount, name string) bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir, "cgroup.subtree_control"))
	if err != nil {
		t.Fatal(err)
	}
	for field := range strings.FieldsSeq(string(text)) {
		if field == name {
			return true
		}
	}
	return false
}

// TestKernelUsageOOM lets the kernel kill a program that wants more memory than its cgroup may have.
func TestKernelUsageOOM(t *testing.T) {
	mount := realMount(t)
	l := newTestLeaf(t, mount)
	controllers, err := FindControllers()
	if err != nil {
		t.Fatal(err)
	}
	join := "true"
	if hasController(t, mount, "memory") {
		if err := os.WriteFile(filepath.Join(l.dir, "memory.max"), []byte("16777216"), 0); err != nil {
			t.Skipf("the leaf's memory cannot be limited, since its parents do not give the controller on: %v", err)
		}
	} else {
		if controllers["memory"] == "" {
			t.Skip("no memory controller is mounted")
		}
		dir := filepath.Join(controllers["memory"], l.Path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Skipf("no cgroup can be made where the memory controller is: %v", err)
		}
		t.Cleanup(func() {
			for range 100 {
				if os.Remove(dir) == nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			_ = os.Remove(filepath.Dir(dir))
		})
		if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte("16777216"), 0); err != nil {
			t.Fatal(err)
		}
		join = "echo 0 > " + filepath.Join(dir, "cgroup.procs")
	}
	// A child of the shell's takes 64 MiB and is killed; the shell is small enough to go on.
	cmd := born(t, l, "bash", "-c", join+" && (x=$(head -c 64M /dev/zero | tr '\\0' x); echo ${#x}); sleep 1000")
	s := &event.Sandbox{ID: "s", Cgroup: l.Path, CgroupID: l.ID}
	meter := NewMeter(mount, controllers)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		u, err := meter.Read(s)
		if err != nil {
			t.Fatal(err)
		}
		if u.Memory != nil && u.Memory.OOMKills > 0 {
			if u.Memory.Limit != 16<<20 || u.Memory.Peak < 15<<20 || u.Memory.Peak > 16<<20 {
				t.Errorf("%+v", u.Memory)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody is killed: %+v (%v)", u.Memory, cmd.ProcessState)
		}
	}
}
