// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// recordBytesFile is how many bytes of the ring each kind of record takes: one that grows is a reviewed diff.
const recordBytesFile = "testdata/record_bytes.txt"

// recordRoom is what the records of one kind take, without the ring's own header.
type recordRoom struct {
	// fixed is the part that each has; most is what may follow it.
	fixed, most uintptr
	// sample is the name of a recorded one, "" where there is none.
	sample string
}

// Bounds of what follows the fixed part, as the kernel side has them: PATH_BYTES, EXEC_VARIABLES_BYTES,
// EXEC_ARGUMENTS_BYTES, NOTABLE_TEXT_BYTES, and PACKET_TINY, _SHORT, _SMALL and _LARGE.
const (
	pathBytes                    = 4095
	variableBytes, argumentBytes = 16 << 10, 128 << 10
	notableTextBytes             = 512
	packetTiny, packetShort      = 16, 128
	packetSmall, packetLargest   = 512, 4096
)

// allRecordBytes is every kind of record, by its name in the accounts.
func allRecordBytes() map[string]recordRoom {
	open := recordRoom{unsafe.Sizeof(fileOpen{}), 3 * pathBytes, "file-fileopen"}
	change := recordRoom{unsafe.Sizeof(fileChange{}), 3 * pathBytes, "file-filechange"}
	packet := unsafe.Sizeof(dnsPacket{})
	const notableMost = maxArguments*8 + 2*8 + unsafe.Sizeof(notableTaskNamespaces{}) + 3*(notableTextBytes-1)
	return map[string]recordRoom{
		"cgroup.made":                    {unsafe.Sizeof(cgroupChange{}), 0, "cgroup-cgroupmade"},
		"cgroup.gone":                    {unsafe.Sizeof(cgroupChange{}), 0, "cgroup-cgroupgone"},
		"process.fork":                   {unsafe.Sizeof(processFork{}), 0, "process-fork"},
		string(event.KindProcessExec):    {unsafe.Sizeof(processExec{}), 3*pathBytes + variableBytes + argumentBytes, "process-exec"},
		string(event.KindProcessExit):    {unsafe.Sizeof(processExit{}), 0, "process-exit"},
		"process.existing":               {unsafe.Sizeof(processExisting{}), pathBytes, "process-existing"},
		string(event.KindProcessMove):    {unsafe.Sizeof(processMove{}), 0, ""},
		string(event.KindFileOpen):       open,
		"watchglass.file.change":         change,
		string(event.KindFileMap):        {open.fixed, open.most, "file-filemap"},
		string(event.KindFileIO):         {open.fixed, open.most, "file-fileuse"},
		string(event.KindNetworkConnect): {unsafe.Sizeof(networkConnect{}), 0, "network-networkconnect"},
		string(event.KindNetworkFlow):    {unsafe.Sizeof(networkFlow{}), 0, "network-networkflow"},
		string(event.KindNetworkSocket):  {unsafe.Sizeof(networkSocketEvent{}), 0, "network-networksocket"},
		"dns.message":                    {packet + packetTiny, packetLargest - packetTiny, ""},
		"network.stream":                 {packet + packetTiny, packetLargest - packetTiny, ""},
		"network.datagram":               {packet + packetTiny, packetLargest - packetTiny, ""},
		string(event.KindSyscallNotable): {unsafe.Sizeof(notableCall{}), notableMost, "notable-syscallnotable"},
		"signal":                         {unsafe.Sizeof(notableSignal{}), 0, ""},
	}
}

// inRing is what a record takes of the ring, with its header there and rounded up.
func inRing(size uintptr) uintptr { return ringHeaderSize + (size+7)&^7 }

// TestRecordBytes holds the bytes of every kind of record to what is committed: the smallest, one as it was recorded, and
// the largest that there can be. Record them with -update.
func TestRecordBytes(t *testing.T) {
	samples, all := recorded(t, ""), allRecordBytes()
	var lines []string
	for _, p := range probes() {
		for _, kind := range p.kinds {
			sizes, known := all[kind]
			switch {
			case p.name == "uring" || kind == "network.flow by UDP":
				continue // of the form of another, or counted in a map and never in the ring
			case !known:
				t.Errorf("nobody knows how many bytes a record %s of probe %s takes", kind, p.name)
				continue
			}
			sample := "-"
			if sizes.sample != "" {
				sample = fmt.Sprint(inRing(uintptr(len(samples[sizes.sample]))))
			}
			lines = append(lines, fmt.Sprintf("%-26s %5d %5s %6d\n", kind, inRing(sizes.fixed), sample, inRing(sizes.fixed+sizes.most)))
		}
	}
	slices.Sort(lines)
	got := "# kind                  smallest sample largest\n" + strings.Join(lines, "")
	if *update {
		if err := os.WriteFile(recordBytesFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(recordBytesFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("records take other room than is recorded; if that is right, record it with -update (-want +got):\n%s", diff)
	}
}

// textBytes is what follows the fixed part of a record by its own lengths, -1 where that is not told apart.
func textBytes(kind string, data []byte) int {
	switch kind {
	case string(event.KindProcessExec):
		e, _, _ := view[processExec](data)
		return int(e.ExecutableSize + e.DirectorySize + e.FilenameSize + e.VariablesSize + e.ArgumentsSize)
	case "process.existing":
		e, _, _ := view[processExisting](data)
		return int(e.ExecutableSize)
	case string(event.KindFileOpen), string(event.KindFileMap), string(event.KindFileIO):
		o, _, _ := view[fileOpen](data)
		return int(o.PathSize + o.HostSize + o.AskedSize)
	case "watchglass.file.change":
		c, _, _ := view[fileChange](data)
		return int(c.PathSize + c.HostSize + c.SecondSize)
	case string(event.KindSyscallNotable):
		return notableBytes(data)
	default:
		return -1
	}
}

// notableBytes is what follows the fixed part of a notable call, by its own word: words and strings.
func notableBytes(data []byte) int {
	c, err := viewCall(data)
	if err != nil {
		return 0
	}
	n := 8 * int(c.Arguments)
	if c.has(notableNotableFlagsNOTABLE_POINTED) {
		n += int(unsafe.Sizeof(c.pointed))
	}
	if c.has(notableNotableFlagsNOTABLE_SPACES) {
		n += int(unsafe.Sizeof(c.namespaces))
	}
	for _, size := range c.Sizes {
		n += int(size)
	}
	return n
}

// helperOpenDeep makes a file whose path is longer than any that is told, opens it and one with a short path, and changes
// its rights.
func helperOpenDeep(args []string) (string, error) {
	fd, err := unix.Open(args[0], unix.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	name := strings.Repeat("d", 250)
	for range 1 + pathBytes/len(name) {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			return "", err
		}
		if fd, err = unix.Openat(fd, name, unix.O_DIRECTORY, 0); err != nil {
			return "", err
		}
	}
	file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	if _, err := unix.Open("/", unix.O_DIRECTORY, 0); err != nil {
		return "", err
	}
	return "", unix.Fchmod(file, 0o640)
}

// TestKernelRecordBytes: what this kernel puts into the ring has the fixed part and the text of its own lengths, and not a
// byte more; of the longest path and the longest arguments no more than the bounds.
func TestKernelRecordBytes(t *testing.T) {
	requireKernel(t)
	tracer := openOwn(t, testConfig())
	defer tracer.Close()
	dir := scratchCgroup(t)
	if err := tracer.Track(cgroupID(t, dir)); err != nil {
		t.Fatal(err)
	}
	deep := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$", "--", t.TempDir())
	deep.Env = append(os.Environ(), helperVariable+"=open deep")
	wide := exec.Command("/bin/true", strings.Repeat("a", 100<<10), strings.Repeat("b", 100<<10))
	wide.Env = []string{"AI_AGENT=" + strings.Repeat("c", 100<<10), "CODEX_THREAD_ID=" + strings.Repeat("d", 3000)}
	ask := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$", "--", "asked.example.com.", "1")
	ask.Env = append(os.Environ(), helperVariable+"=resolve")
	ask.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	for _, cmd := range []*exec.Cmd{deep, wide, ask} {
		startIn(t, dir, cmd)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	largest, dns := map[string]int{}, map[int]int{}
	for {
		data, err := tracer.ring.next()
		if err != nil {
			t.Fatal(err)
		}
		if data == nil {
			break
		}
		kind, sizes := checkRecordBytes(t, tracer, data)
		largest[kind] = max(largest[kind], len(data)-int(sizes.fixed))
		if kind == "dns.message" {
			dns[packetTiny+len(data)-int(sizes.fixed)]++
		}
	}
	if diff := cmp.Diff(map[int]int{packetShort: 2}, dns); diff != "" {
		t.Errorf("records of a question and its answer by their room (-want +got):\n%s", diff)
	}
	const deepest = pathBytes - 255 // a name that does not fit whole is left out
	for kind, least := range map[string]int{
		string(event.KindFileOpen): deepest, "watchglass.file.change": deepest,
		string(event.KindProcessExec): argumentBytes, string(event.KindProcessExit): 0,
	} {
		if got, found := largest[kind]; !found || got < least {
			t.Errorf("the largest record %s has %d bytes of text, want %d", kind, got, least)
		}
	}
}

// checkRecordBytes checks one record, and says of which kind it is.
func checkRecordBytes(t *testing.T, tracer *Tracer, data []byte) (string, recordRoom) {
	t.Helper()
	head, _, err := view[eventHeader](data)
	if err != nil {
		t.Fatal(err)
	}
	kind := strings.TrimSuffix(tracer.probes[head.Probe].kindName(int(head.Kind)), " by io_uring")
	sizes, known := allRecordBytes()[kind]
	if !known {
		t.Fatalf("a record of kind %q", kind)
	}
	if n := uintptr(len(data)); n < sizes.fixed || n > sizes.fixed+sizes.most {
		t.Errorf("a record %s of %d bytes, want %d to %d", kind, n, sizes.fixed, sizes.fixed+sizes.most)
	}
	if text := textBytes(kind, data); text >= 0 && len(data) != int(sizes.fixed)+text {
		t.Errorf("a record %s of %d bytes has %d and %d bytes of text", kind, len(data), sizes.fixed, text)
	}
	return kind, sizes
}
