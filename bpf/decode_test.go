// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
)

var update = flag.Bool("update", false, "record testdata/records from this kernel, and rewrite what they decode to")

// recordsDir holds records as a kernel wrote them, NAME.bin, and what they decode to, NAME.txt. A name
// begins with the probe's.
const recordsDir = "testdata/records"

// testDecoder decodes with a clock that does not move.
func testDecoder() *decoder {
	c := &clock{}
	c.stretches.Store(&[]clockStretch{{offset: int64(1_700_000_000 * time.Second)}})
	return &decoder{probes: probes(), clock: c}
}

// renumber gives a record the index that its probe has now: recorded ones have that of their day.
func renumber(data []byte, name string) {
	index := slices.IndexFunc(probes(), func(p probe) bool { return strings.HasPrefix(name, p.name) })
	if at := int(unsafe.Offsetof(eventHeader{}.Probe)); index >= 0 && len(data) >= at+2 {
		binary.NativeEndian.PutUint16(data[at:], uint16(index))
	}
}

// recorded reads the recorded records whose name begins with prefix.
func recorded(t testing.TB, prefix string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(recordsDir, prefix+"*.bin"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no records of %q: %v", prefix, err)
	}
	all := map[string][]byte{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".bin")
		renumber(data, name)
		all[name] = data
	}
	return all
}

func TestDecodeRecorded(t *testing.T) {
	for name, data := range recorded(t, "") {
		t.Run(name, func(t *testing.T) {
			r, err := testDecoder().decode(data)
			if err != nil {
				t.Fatal(err)
			}
			payload := r.Payload
			r.Payload, r.Time, r.Task.StartTime = nil, r.Time.UTC(), r.Task.StartTime.UTC()
			got := fmt.Sprintf("%+v\n%T\n%s", *r, payload, fields(payload))
			got = strings.Replace(got, " memory:<nil> large:false", "", 1) // of how it is made, not of what it tells
			golden := filepath.Join(recordsDir, name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("decodes to (-want +got):\n%s", diff)
			}
		})
	}
}

// fields writes a payload's fields, one a line.
func fields(payload any) string {
	var b strings.Builder
	v := reflect.ValueOf(payload).Elem()
	for i := range v.NumField() {
		value := v.Field(i).Interface()
		if at, ok := value.(time.Time); ok {
			value = at.UTC()
		}
		if field := v.Field(i); field.Kind() == reflect.Pointer && !field.IsNil() {
			value = field.Elem().Interface()
		}
		fmt.Fprintf(&b, "%s: %+q\n", v.Type().Field(i).Name, fmt.Sprintf("%+v", value))
	}
	return b.String()
}

// TestDecodeCut cuts every recorded record at every length: each is an error or a record, never a panic.
func TestDecodeCut(t *testing.T) {
	for name, data := range recorded(t, "") {
		for n := range data {
			if _, err := testDecoder().decode(data[:n]); n < int(unsafe.Sizeof(eventHeader{})) && !errors.Is(err, errShort) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
		}
	}
}

func TestDecodeUnknown(t *testing.T) {
	for name, data := range recorded(t, "") {
		binary.NativeEndian.PutUint16(data[unsafe.Offsetof(eventHeader{}.Kind):], 999)
		if _, err := testDecoder().decode(data); !errors.Is(err, errUnknown) {
			t.Errorf("%s with an unknown kind: %v", name, err)
		}
		binary.NativeEndian.PutUint16(data[unsafe.Offsetof(eventHeader{}.Probe):], 999)
		if _, err := testDecoder().decode(data); !errors.Is(err, errUnknown) {
			t.Errorf("%s of an unknown probe: %v", name, err)
		}
	}
}

// TestSlots checks that every kind of record has an account of its own, and a name.
func TestSlots(t *testing.T) {
	var loaded []loadedProbe
	for _, p := range probes() {
		loaded = append(loaded, loadedProbe{probe: p})
	}
	if err := placeSlots(loaded); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	next := 0
	for i := range loaded {
		p := &loaded[i]
		if p.slot != next {
			t.Errorf("probe %s has slot %d, want %d", p.name, p.slot, next)
		}
		next += 1 + len(p.kinds)
		for kind := range 1 + len(p.kinds) {
			name := p.kindName(kind)
			if other, twice := names[name]; twice || name == "" {
				t.Errorf("kind %d of probe %s is called %q, as one of %s", kind, p.name, name, other)
			}
			names[name] = p.name
		}
	}
	for name, data := range recorded(t, "") {
		head, _, err := view[eventHeader](data)
		if err != nil {
			t.Fatal(err)
		}
		if p := &loaded[head.Probe]; head.Kind == 0 || int(head.Kind) > len(p.kinds) {
			t.Errorf("%s is of kind %d, probe %s has %d", name, head.Kind, p.name, len(p.kinds))
		}
	}
	many := []loadedProbe{{probe: probe{name: "greedy", kinds: make([]string, eventSlots)}}}
	if err := placeSlots(many); err == nil {
		t.Errorf("%d kinds of one probe found room in %d slots", eventSlots, eventSlots)
	}
}

// TestEveryProbeIsRecorded fails when a probe that sends records has none to fuzz with.
func TestEveryProbeIsRecorded(t *testing.T) {
	for _, p := range probes() {
		// The syscall probe only counts; a DNS answer cannot be had from the loopback of any machine; what comes
		// through a ring has the form of the file probe's.
		if p.name == "syscall" || p.name == "dns" || p.name == "uring" {
			continue
		}
		if len(recorded(t, p.name)) == 0 {
			t.Errorf("no record of probe %s", p.name)
		}
	}
}

func FuzzDecodeCgroup(f *testing.F)  { fuzzDecode(f, "cgroup") }
func FuzzDecodeProcess(f *testing.F) { fuzzDecode(f, "process") }

// FuzzDecode starts from the records of all probes, their own targets from what they make up.
func FuzzDecode(f *testing.F) { fuzzDecode(f, "") }

// fuzzDecode decodes arbitrary bytes as a record of one probe: never a panic, never more text than bytes.
func fuzzDecode(f *testing.F, name string) {
	for _, data := range recorded(f, name) {
		f.Add(data)
	}
	d := testDecoder()
	f.Fuzz(func(t *testing.T, data []byte) {
		if name != "" {
			data = slices.Clone(data)
			renumber(data, name)
		}
		r, err := d.decode(data)
		if err != nil {
			return
		}
		if r.Payload == nil {
			t.Fatal("a record without a payload")
		}
		if ran, ok := r.Payload.(*event.ProcessExec); ok {
			n := 0
			for _, arg := range ran.Args {
				n += len(arg) + 1
			}
			for _, v := range ran.Env {
				n += len(v.Name) + len(v.Value)
			}
			if n += len(ran.Executable) + len(ran.Filename) + len(ran.WorkingDirectory); n > len(data)+2 {
				t.Fatalf("%d bytes of text from %d", n, len(data))
			}
		}
	})
}

// TestKernelRecord checks that what this kernel writes decodes; with -update it records a sample of each kind.
func TestKernelRecord(t *testing.T) {
	requireKernel(t)
	tracer := openOwn(t, testConfig())
	defer tracer.Close()
	dir := scratchCgroup(t)
	if err := tracer.Track(cgroupID(t, dir)); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	child := makeCgroup(t, filepath.Join(dir, "child"))
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	names := []string{
		"cgroup-cgroupmade", "cgroup-cgroupgone", "process-fork", "process-exec", "process-exit", "process-existing",
		"file-fileopen", "file-filechange", "file-filemap", "network-networkconnect", "network-networkflow",
	}
	names = append([]string{"notable-syscallnotable"}, names...)
	// It waits to be listed: a process that is gone by then is none that exists.
	const wait = "read -r line; "
	cmd := exec.Command("/bin/bash", "-c", wait+"exec 3<>/dev/tcp/127.0.0.1/"+port+"; cat <&3; cat /etc/passwd /nowhere; rmdir /nowhere; exit 3", "a\nb")
	if _, err := os.Stat(cmd.Path); err != nil {
		t.Log("without bash no shell can connect: only what others do is looked at")
		cmd, names = exec.Command("/bin/sh", "-c", wait+"cat /etc/passwd /nowhere; rmdir /nowhere; exit 3"), names[:9]
	}
	cmd.Dir, cmd.Env = "/", []string{"PATH=/bin", "CODEX_THREAD_ID=thread", "AI_AGENT=test"}
	listed, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	startIn(t, child, cmd)
	if err := tracer.Bootstrap(cgroupID(t, dir)); err != nil {
		t.Fatal(err)
	}
	// Becoming another user takes notable calls.
	user := exec.Command("/bin/true")
	user.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
	startIn(t, child, user)
	user.Wait()
	listed.Close()
	cmd.Wait()
	if err := os.Remove(child); err != nil {
		t.Fatal(err)
	}
	samples := map[string][]byte{}
	for {
		sample, err := tracer.ring.next()
		if err != nil {
			t.Fatal(err)
		}
		if sample == nil {
			break
		}
		r, err := tracer.dec.decode(sample)
		if err != nil {
			t.Errorf("a record of this kernel: %v", err)
			continue
		}
		head, _, err := view[eventHeader](sample)
		if err != nil {
			t.Fatal(err)
		}
		kind := strings.ToLower(strings.TrimPrefix(reflect.TypeOf(r.Payload).Elem().Name(), "Process"))
		name := tracer.dec.probes[head.Probe].name + "-" + kind
		if r.Sandbox != 0 && samples[name] == nil {
			samples[name] = slices.Clone(sample)
		}
	}
	for _, name := range names {
		if samples[name] == nil {
			t.Errorf("this kernel wrote no %s", name)
		}
	}
	if !*update {
		return
	}
	for name, data := range samples {
		if err := os.MkdirAll(recordsDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(recordsDir, name+".bin"), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*Config)
		want  string
	}{
		{"default", func(*Config) {}, ""},
		{"ring of no power of two", func(c *Config) { c.RingBytes = 5 << 20 }, "ring size 5242880"},
		{"ring below a page", func(c *Config) { c.RingBytes = 1024 }, "ring size 1024"},
		{"huge ring", func(c *Config) { c.RingBytes = 1 << 31 }, "ring size 2147483648"},
		{"a budget below none", func(c *Config) { c.KeptBudget = -1 }, "less than none"},
		{"no budgets", func(c *Config) { c.BulkBudget, c.KeptBudget = 0, 0 }, ""},
		{"no sandboxes", func(c *Config) { c.MaxSandboxes = 0 }, "bound of 0 sandboxes"},
		{"too many names", func(c *Config) { c.Environment = slices.Repeat([]string{"A"}, 33) }, "33 environment variables"},
		{"empty name", func(c *Config) { c.Environment = []string{""} }, `""`},
		{"assignment", func(c *Config) { c.Environment = []string{"A=B"} }, `"A=B"`},
		{"long name", func(c *Config) { c.Environment = []string{strings.Repeat("A", 64)} }, "cannot be the name"},
		{"longest name", func(c *Config) { c.Environment = []string{strings.Repeat("A", 63)} }, ""},
		{"two mistakes", func(c *Config) { c.RingBytes, c.MaxSandboxes = 0, 0 }, "bound of 0 sandboxes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := testConfig()
			test.spoil(&cfg)
			err := cfg.Validate()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestClock(t *testing.T) {
	c, err := newClock()
	if err != nil {
		t.Fatal(err)
	}
	_, boot, err := measureOffset()
	if err != nil {
		t.Fatal(err)
	}
	if off := time.Since(c.wall(uint64(boot))); off < -time.Second || off > time.Second {
		t.Errorf("now is %v off", off)
	}
	if !c.wall(0).IsZero() {
		t.Error("no time is a time")
	}
	// A drift that is only noise keeps the offset; a step of the wall clock is followed.
	offset := c.offsetAt(uint64(boot))
	for _, test := range []struct {
		drift time.Duration
		keep  bool
	}{{clockTolerance / 4, true}, {time.Hour, false}, {-time.Hour, false}} {
		c.stretches.Store(&[]clockStretch{{since: boot, offset: offset + int64(test.drift)}})
		c.measured = boot - int64(2*clockInterval)
		c.refresh()
		_, now, err := measureOffset()
		if err != nil {
			t.Fatal(err)
		}
		if kept := c.offsetAt(uint64(now)) == offset+int64(test.drift); kept != test.keep {
			t.Errorf("after a drift of %v the offset was kept: %v", test.drift, kept)
		}
	}
}

// TestClockStretches has the wall clock set again and again: each moment is told as it was shown then.
func TestClockStretches(t *testing.T) {
	c := &clock{}
	c.stretches.Store(&[]clockStretch{{since: 1000, offset: 0}})
	hour := int64(time.Hour)
	for i := int64(1); i < clockStretches; i++ {
		c.move(i*hour, 1000+i*1000)
	}
	check := func(boot uint64, offset int64) {
		t.Helper()
		if want, got := time.Unix(0, int64(boot)+offset), c.wall(boot); !got.Equal(want) {
			t.Errorf("at %d the clock showed %v, got %v", boot, want, got)
		}
	}
	for i := int64(1); i < clockStretches; i++ {
		check(uint64(1000+i*1000), i*hour)
		check(uint64(1999+i*1000), i*hour)
	}
	check(1, 0)
	check(1<<62, (clockStretches-1)*hour)
	// The oldest make room for new ones.
	c.move(-hour, 1000+clockStretches*1000)
	if known := len(*c.stretches.Load()); known != clockStretches {
		t.Errorf("%d stretches are kept, want %d", known, clockStretches)
	}
	check(1, hour)
	check(1000+clockStretches*1000, -hour)
}

func TestStartedAt(t *testing.T) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	var ticks uint64
	rest := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if _, err := fmt.Sscan(rest[19], &ticks); err != nil {
		t.Fatal(err)
	}
	self := Task{PID: uint32(os.Getpid()), Start: ticks*uint64(clockTick) + 1}
	args, truncated := readArguments(&self)
	if diff := cmp.Diff(os.Args, args); diff != "" || truncated {
		t.Errorf("arguments differ (-want +got):\n%s", diff)
	}
	self.Start += uint64(time.Second)
	if args, _ := readArguments(&self); args != nil {
		t.Errorf("arguments of another process: %q", args)
	}
}
