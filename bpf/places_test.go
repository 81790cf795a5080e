// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// speaker is a process in a network namespace of its own that sends what it is told to.
type speaker struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startSpeaker(t *testing.T, cgroup string) *speaker {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$", "--")
	cmd.Env = append(os.Environ(), helperVariable+"=speak", "GOCOVERDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	cmd.Stderr = os.Stderr
	in, out := talkIn(t, cgroup, cmd)
	s := &speaker{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(s.end)
	return s
}

// tell has it do one thing, and returns when that is done.
func (s *speaker) tell(words ...string) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, strings.Join(words, " ")); err != nil {
		s.t.Fatal(err)
	}
	if said, err := s.out.ReadString('\n'); err != nil || said != "done\n" {
		s.t.Fatalf("the speaker was told %q and says %q, %v", words, said, err)
	}
}

func (s *speaker) end() {
	_ = s.in.Close()
	_ = s.cmd.Wait()
}

// helperSpeak does line by line what it is told: "move" to a cgroup, "ask" for a name by a socket of its own, make a
// "socket", "connect" it, "write" on it and "close" it.
func helperSpeak([]string) (string, error) {
	if err := loopbackUp(); err != nil {
		return "", err
	}
	sink, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return "", err
	}
	go func() {
		for b := make([]byte, 4096); ; {
			if _, _, err := sink.ReadFrom(b); err != nil {
				return
			}
		}
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:443")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() }()
		}
	}()
	stream := -1
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "move":
			err = os.WriteFile(procsOf(words[1]), []byte(strconv.Itoa(os.Getpid())), 0)
		case "ask":
			err = askFor(words[1])
		case "socket":
			stream, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		case "connect":
			err = unix.Connect(stream, &unix.SockaddrInet4{Port: 443, Addr: [4]byte{127, 0, 0, 1}})
		case "write":
			_, err = unix.Write(stream, []byte(words[1]))
		case "close":
			err = unix.Close(stream)
		}
		if err != nil {
			return "", fmt.Errorf("told %q: %w", words, err)
		}
		fmt.Println("done")
	}
	return "", lines.Err()
}

// askFor sends a question for a name, and does not wait for an answer.
func askFor(name string) error {
	query := dnsmessage.Message{Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	packed, err := query.Pack()
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Sendto(fd, packed, 0, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 1}}), unix.Close(fd))
}

// asked picks the questions for a name: those that are sent, which the loopback also delivers.
func asked(name string) func(*Record) bool {
	return func(r *Record) bool {
		m, ok := r.Payload.(*DNSMessage)
		return ok && m.Sent && m.Name == name
	}
}

// wrote picks what was written on a connection. Only what may be a request by HTTP is shown: it begins with a capital letter.
func wrote(text string) func(*Record) bool {
	return func(r *Record) bool {
		s, ok := r.Payload.(*Stream)
		return ok && s.Sent && string(s.Bytes) == text
	}
}

// toldOnce checks that the record is told exactly once, in a sandbox.
func (w *watch) toldOnce(what string, pick func(*Record) bool, sandbox uint64) {
	w.t.Helper()
	if found := w.await(1, pick); len(found) != 1 || found[0].Sandbox != sandbox {
		w.t.Errorf("%s: told %d times, want once, of sandbox %d: %+v", what, len(found), sandbox, found)
	}
}

// atPlaces is how many cgroups the packet programs of a tracer hang at, and whether they do at the root cgroup.
func atPlaces(tracer *Tracer) (places int, root bool) {
	tracer.places.mu.Lock()
	defer tracer.places.mu.Unlock()
	return len(tracer.places.at), tracer.places.root != nil
}

// awaitRoot waits until packet programs hang at the root cgroup, or do no more.
func awaitRoot(t *testing.T, tracer *Tracer, want bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, root := atPlaces(tracer); root == want {
			told := slices.ContainsFunc(tracer.Probes(), func(p event.ProbeStats) bool { return p.AtRoot })
			if told != want {
				t.Errorf("told that packet programs hang at the root cgroup: %v, want %v", told, want)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("packet programs at the root cgroup: %v, want %v", !want, want)
		}
	}
}

// packetRuns counts the runs of the packet programs.
func packetRuns(t *testing.T, tracer *Tracer) func() uint64 {
	t.Helper()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stats.Close() })
	count := func() (runs uint64) {
		for name, p := range tracer.places.probe.collection.Programs {
			s, err := p.Stats()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			runs += s.RunCount
		}
		return runs
	}
	before := count()
	return func() uint64 {
		now := count()
		defer func() { before = now }()
		return now - before
	}
}

// lingerNot has packet programs leave the root cgroup as soon as nobody needs them there, until the test ends.
func lingerNot(t *testing.T, tracer *Tracer) {
	t.Helper()
	set := func(linger time.Duration) {
		tracer.places.mu.Lock()
		defer tracer.places.mu.Unlock()
		tracer.places.linger = linger
	}
	set(0)
	t.Cleanup(func() { set(placesLinger) })
}

// TestKernelPlaces checks that packets run programs where sandboxes are and nowhere else, and are told once: beside
// sandboxes, in nested ones in both orders of being watched, and in those that are no longer watched.
func TestKernelPlaces(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	lingerNot(t, w.tracer)
	awaitRoot(t, w.tracer, false)
	runs := packetRuns(t, w.tracer)
	stranger := startSpeaker(t, scratchCgroup(t))
	stranger.tell("ask", "stranger.example.com")
	stranger.tell("socket")
	stranger.tell("connect")
	stranger.tell("write", "STRANGER")
	if n := runs(); n != 0 {
		t.Errorf("packets of a process that is in no sandbox ran programs %d times", n)
	}
	own := startSpeaker(t, w.cgroup)
	own.tell("ask", "own.example.com")
	if n := runs(); n == 0 {
		t.Error("packets of a sandbox ran no program")
	}
	w.toldOnce("a question of the sandbox", asked("own.example.com"), w.id)

	// Below a place there is no other.
	within := makeCgroup(t, filepath.Join(w.cgroup, "within"))
	if err := w.tracer.Track(cgroupID(t, within)); err != nil {
		t.Fatal(err)
	}
	nested := startSpeaker(t, within)
	nested.tell("ask", "within.example.com")
	w.toldOnce("a question of a sandbox in another", asked("within.example.com"), cgroupID(t, within))
	if places, root := atPlaces(w.tracer); places != 1 || root {
		t.Errorf("%d places, at the root cgroup: %v; want the outer sandbox's alone", places, root)
	}
	// It stays for those below when the outer one is no longer watched.
	if err := w.tracer.Untrack(w.id); err != nil {
		t.Fatal(err)
	}
	nested.tell("ask", "within.again.example.com")
	own.tell("ask", "own.again.example.com")
	w.toldOnce("a question when the sandbox around is not watched any more", asked("within.again.example.com"), cgroupID(t, within))
	if got := w.seen(asked("own.again.example.com")); len(got) != 0 {
		t.Errorf("a question of who is not watched any more is told: %+v", got)
	}
	if err := w.tracer.Untrack(cgroupID(t, within)); err != nil {
		t.Fatal(err)
	}
	if places, root := atPlaces(w.tracer); places != 0 || root {
		t.Errorf("%d places are left, at the root cgroup: %v", places, root)
	}
	runs()
	own.tell("ask", "own.at.last.example.com")
	nested.tell("ask", "within.at.last.example.com")
	if n := runs(); n != 0 {
		t.Errorf("packets ran programs %d times when nothing was watched any more", n)
	}
}

// TestKernelPlacesAround watches a sandbox around one that is watched already: each packet is told once.
func TestKernelPlacesAround(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	lingerNot(t, w.tracer)
	awaitRoot(t, w.tracer, false)
	outer := scratchCgroup(t)
	inner := makeCgroup(t, filepath.Join(outer, "inner"))
	for _, dir := range []string{inner, outer} {
		if err := w.tracer.Track(cgroupID(t, dir)); err != nil {
			t.Fatal(err)
		}
	}
	if places, root := atPlaces(w.tracer); places != 2 || !root {
		t.Errorf("%d places, at the root cgroup: %v; want the first sandbox's and the inner one's, and the root cgroup for the outer one", places, root)
	}
	for _, dir := range []string{inner, outer, w.cgroup} {
		name := "in." + filepath.Base(dir) + ".example.com"
		s := startSpeaker(t, dir)
		s.tell("ask", name)
		s.tell("socket")
		s.tell("connect")
		s.tell("write", "GET"+name)
		w.toldOnce(name, asked(name), cgroupID(t, dir))
		w.toldOnce("what is written to "+name, wrote("GET"+name), cgroupID(t, dir))
	}
	if got := w.packetProbe(); !got.Attached || !strings.Contains(got.Fallback, errPlaceAround.Error()) {
		t.Errorf("the probe is told as %+v", got)
	}
	// The inner one falls to the outer one, and with it its packets.
	if err := w.tracer.Untrack(cgroupID(t, inner)); err != nil {
		t.Fatal(err)
	}
	startSpeaker(t, inner).tell("ask", "fallen.example.com")
	w.toldOnce("a question of who fell to the outer sandbox", asked("fallen.example.com"), cgroupID(t, outer))
	if err := w.tracer.Untrack(cgroupID(t, outer)); err != nil {
		t.Fatal(err)
	}
	awaitRoot(t, w.tracer, false)
	if got := w.packetProbe(); !got.Attached || got.Fallback != "" {
		t.Errorf("the probe is told as %+v", got)
	}
}

func (w *watch) packetProbe() event.ProbeStats {
	w.t.Helper()
	for _, p := range w.tracer.Probes() {
		if p.Name == w.tracer.places.probe.name {
			return p
		}
	}
	w.t.Fatal("there is no packet probe")
	return event.ProbeStats{}
}

// TestKernelPlacesStray has a process leave its sandbox, and one come in with a socket that it made outside: what both say
// is told, by programs at the root cgroup, which go when they do.
func TestKernelPlacesStray(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	lingerNot(t, w.tracer)
	awaitRoot(t, w.tracer, false)
	outside := scratchCgroup(t)

	stray := startSpeaker(t, w.cgroup)
	stray.tell("move", outside)
	awaitRoot(t, w.tracer, true)
	stray.tell("ask", "stray.example.com")
	stray.tell("socket")
	stray.tell("connect")
	stray.tell("write", "STRAY")
	w.toldOnce("a question of a stray", asked("stray.example.com"), w.id)
	w.toldOnce("what a stray says", wrote("STRAY"), w.id)
	// Who stayed is seen by programs at the cgroup and at the root cgroup now, and told once.
	startSpeaker(t, w.cgroup).tell("ask", "stayed.example.com")
	w.toldOnce("a question of who stayed", asked("stayed.example.com"), w.id)
	stray.end()
	awaitRoot(t, w.tracer, false)

	// One whose sandbox is not watched any more needs nothing.
	over := scratchCgroup(t)
	if err := w.tracer.Track(cgroupID(t, over)); err != nil {
		t.Fatal(err)
	}
	startSpeaker(t, over).tell("move", outside)
	awaitRoot(t, w.tracer, true)
	if err := w.tracer.Untrack(cgroupID(t, over)); err != nil {
		t.Fatal(err)
	}
	awaitRoot(t, w.tracer, false)

	late := startSpeaker(t, outside)
	late.tell("socket")
	late.tell("move", w.cgroup)
	late.tell("connect")
	awaitRoot(t, w.tracer, true)
	late.tell("write", "LATE")
	w.toldOnce("what is said by a socket from outside", wrote("LATE"), w.id)
	late.tell("close")
	awaitRoot(t, w.tracer, false)
	if n := counted(w.tracer.shared["outside_sockets"]); n != 0 {
		t.Errorf("%d sockets from outside are counted when all are closed", n)
	}
}

// TestKernelPlacesUnseen has a connection say something before it is seen: what it says later is not taken for its
// beginning.
func TestKernelPlacesUnseen(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	outside := scratchCgroup(t)
	// As a tracer that does not come to it.
	w.tracer.places.mu.Lock()
	late := startSpeaker(t, outside)
	late.tell("socket")
	late.tell("move", w.cgroup)
	late.tell("connect")
	late.tell("write", "UNSEEN")
	w.tracer.places.mu.Unlock()
	awaitRoot(t, w.tracer, true)
	late.tell("write", "seen")
	found := w.await(1, wrote("seen"))
	if len(found) != 1 || found[0].Payload.(*Stream).Offset != uint32(len("UNSEEN")) {
		t.Errorf("what is said after what was not seen is told as %+v", found)
	}
}

// TestKernelPlacesFull checks that packets are told of a sandbox that programs cannot hang at: when there are too many
// already, and when the kernel refuses.
func TestKernelPlacesFull(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	lingerNot(t, w.tracer)
	awaitRoot(t, w.tracer, false)
	refusing := scratchCgroup(t)
	hangMany(t, refusing)
	many := scratchCgroup(t)
	most := func(n int) {
		w.tracer.places.mu.Lock()
		defer w.tracer.places.mu.Unlock()
		w.tracer.places.max = n
	}
	defer most(placesMax)
	for _, c := range []struct {
		name, dir, reason string
		max               int
	}{
		{"refused", refusing, "argument list too long", placesMax},
		{"full", many, errPlacesFull.Error(), 1},
	} {
		most(c.max)
		id := cgroupID(t, c.dir)
		if err := w.tracer.Track(id); err != nil {
			t.Fatal(err)
		}
		if places, root := atPlaces(w.tracer); places != 1 || !root {
			t.Errorf("%s: %d places, at the root cgroup: %v; want the first sandbox's and that", c.name, places, root)
		}
		if got := w.packetProbe(); !got.Attached || !strings.Contains(got.Fallback, c.reason) {
			t.Errorf("%s: the probe is told as %+v", c.name, got)
		}
		for dir, sandbox := range map[string]uint64{c.dir: id, w.cgroup: w.id} {
			name := c.name + "." + filepath.Base(dir) + ".example.com"
			startSpeaker(t, dir).tell("ask", name)
			w.toldOnce(name, asked(name), sandbox)
		}
		if err := w.tracer.Untrack(id); err != nil {
			t.Fatal(err)
		}
		awaitRoot(t, w.tracer, false)
	}
}

// TestKernelPlacesAtRoot checks that the root cgroup has no place, as a sandbox itself.
func TestKernelPlacesAtRoot(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	lingerNot(t, w.tracer)
	awaitRoot(t, w.tracer, false)
	id := cgroupID(t, w.tracer.mount)
	// Not watched: what the machine does would be told.
	w.tracer.places.add(id, w.tracer.mount)
	if places, root := atPlaces(w.tracer); places != 1 || !root {
		t.Errorf("%d places, at the root cgroup: %v; want the first sandbox's and that", places, root)
	}
	if got := w.packetProbe(); !got.Attached || !strings.Contains(got.Fallback, errPlaceAtRoot.Error()) {
		t.Errorf("the probe is told as %+v", got)
	}
	startSpeaker(t, w.cgroup).tell("ask", "below.example.com")
	w.toldOnce("a question of a sandbox below", asked("below.example.com"), w.id)
	w.tracer.places.remove(id)
	awaitRoot(t, w.tracer, false)
}

// hangMany attaches as many programs to a cgroup as it takes.
func hangMany(t *testing.T, cgroup string) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	var links []link.Link
	t.Cleanup(func() { _ = closeAll(links) })
	for range math.MaxUint8 {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: ebpf.AttachCGroupInetEgress, Program: program})
		if err != nil {
			return
		}
		links = append(links, l)
	}
	t.Fatalf("%d programs, and there is room for more", len(links))
}

// questions asks for one name after another until it is stopped.
type questions struct {
	asked atomic.Int64
	stop  chan struct{}
	ended sync.WaitGroup
}

func startQuestions(s *speaker) *questions {
	q := &questions{stop: make(chan struct{})}
	q.ended.Go(func() {
		for {
			select {
			case <-q.stop:
				return
			default:
			}
			s.tell("ask", fmt.Sprintf("%d.load.example.com", q.asked.Load()))
			q.asked.Add(1)
			time.Sleep(slowed) // an emulated machine has other things to do
		}
	})
	return q
}

func (q *questions) more(t *testing.T, n int64) {
	t.Helper()
	want := q.asked.Load() + n
	for deadline := time.Now().Add(time.Minute); q.asked.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d questions of %d", q.asked.Load(), want)
		}
	}
}

// questionOf is the name of a question of startQuestions.
func questionOf(r *Record) (string, bool) {
	m, ok := r.Payload.(*DNSMessage)
	return func() string {
		if !ok {
			return ""
		}
		return m.Name
	}(), ok && m.Sent && strings.HasSuffix(m.Name, ".load.example.com")
}

// pinnedHooks is the pinned links of packet programs.
func pinnedHooks(t *testing.T, dir string) (names []string) {
	t.Helper()
	hooks, err := os.ReadDir(filepath.Join(dir, pinHooks))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hooks {
		if strings.HasPrefix(h.Name(), "dns-") {
			names = append(names, h.Name())
		}
	}
	slices.Sort(names)
	return names
}

// TestKernelPlacesPins has tracers take over from each other while a sandbox asks for names, as long as its place and those
// of others change: each question is told once, and no link is left of a cgroup that is gone or not watched any more.
func TestKernelPlacesPins(t *testing.T) {
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	told := &execs{seen: map[string]int{}, of: questionOf}
	cfg := pinned(dir)
	r := told.read(t, openPinned(t, cfg, event.PinningStarted))
	if err := r.Track(cgroupID(t, cgroup)); err != nil {
		t.Fatal(err)
	}
	goes := makeCgroup(t, filepath.Join(cgroup2Mount(t), "watchglass-test-goes-"+strconv.Itoa(os.Getpid())))
	if err := r.Track(cgroupID(t, goes)); err != nil {
		t.Fatal(err)
	}
	id := cgroupID(t, cgroup)
	want := []string{"dns-" + placeName(id)("dns_on_egress") + pinLink, "dns-" + placeName(id)("dns_on_ingress") + pinLink}
	if got := pinnedHooks(t, dir); len(got) != 4 {
		t.Errorf("two sandboxes have the links %q", got)
	}
	load := startQuestions(startSpeaker(t, cgroup))
	for _, next := range []struct {
		name    string
		version func(probe string, spec *ebpf.CollectionSpec)
		want    event.Pinning
	}{
		{"the same", nil, event.PinningAdopted},
		{"another program", otherPacketPrograms, event.PinningUpdated},
		{"another layout of a map", otherMaps, event.PinningReplaced},
	} {
		load.more(t, 20)
		r.kill(t)
		if next.name == "the same" {
			if err := os.Remove(goes); err != nil {
				t.Fatal(err)
			}
		}
		load.more(t, 20) // while nobody reads
		r = told.read(t, openVersion(t, cfg, next.version, next.want))
		if places, root := atPlaces(r.Tracer); places != 1 || root {
			t.Errorf("%s: %d places, at the root cgroup: %v", next.name, places, root)
		}
		if got := pinnedHooks(t, dir); !slices.Equal(got, want) {
			t.Errorf("%s: the links are %q, want %q", next.name, got, want)
		}
	}
	load.more(t, 20)
	close(load.stop)
	load.ended.Wait()
	told.once(t, load.asked.Load())
	if err := r.Untrack(id); err != nil {
		t.Fatal(err)
	}
	if got := pinnedHooks(t, dir); len(got) != 0 {
		t.Errorf("links of what is not watched any more: %q", got)
	}
	r.kill(t)
}

// once kills no tracer but waits until all questions are told, and checks that each is told once.
func (e *execs) once(t *testing.T, count int64) {
	t.Helper()
	last := fmt.Sprintf("%d.load.example.com", count-1)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		e.mu.Lock()
		n := e.seen[last]
		e.mu.Unlock()
		if n > 0 {
			break
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range count {
		if n := e.seen[fmt.Sprintf("%d.load.example.com", i)]; n != 1 {
			t.Errorf("question %d of %d was told %d times", i, count, n)
		}
	}
}

// otherPacketPrograms is a version whose packet programs have an instruction more, that does nothing.
func otherPacketPrograms(_ string, spec *ebpf.CollectionSpec) {
	for _, p := range spec.Programs {
		if p.Type == ebpf.CGroupSKB {
			p.Instructions = slices.Insert(slices.Clone(p.Instructions), 1, asm.Mov.Imm(asm.R0, 0))
		}
	}
}

// TestKernelPlacesPinnedAtRoot takes over from a version whose packet programs hang at the root cgroup alone, and from a
// tracer that was killed while they hung there for a stray.
func TestKernelPlacesPinnedAtRoot(t *testing.T) {
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	told := &execs{seen: map[string]int{}, of: questionOf}
	r := told.read(t, openPinned(t, pinned(dir), event.PinningStarted))
	if err := r.Track(cgroupID(t, cgroup)); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	// As such a version left it.
	s := r.places
	links, err := s.hangAll(s.mount, false, rootName)
	if err != nil {
		t.Fatal(err)
	}
	s.leave(cgroupID(t, cgroup))
	want := []string{"dns-dns_on_egress" + pinLink, "dns-dns_on_ingress" + pinLink}
	if got := pinnedHooks(t, dir); !slices.Equal(got, want) {
		t.Fatalf("the links are %q, want %q", got, want)
	}
	if err := errors.Join(closeAll(links), r.Close()); err != nil {
		t.Fatal(err)
	}
	speaker := startSpeaker(t, cgroup)
	asked := int64(0)
	ask := func() { speaker.tell("ask", fmt.Sprintf("%d.load.example.com", asked)); asked++ }
	ask()
	tracer := openPinned(t, pinned(dir), event.PinningAdopted)
	if places, root := atPlaces(tracer); places != 1 || !root {
		t.Errorf("%d places, at the root cgroup: %v; want both until it lingered", places, root)
	}
	ask()
	lingerNot(t, tracer)
	r = told.read(t, tracer)
	awaitRoot(t, tracer, false)
	ask()
	if got := pinnedHooks(t, dir); len(got) != 2 || slices.Contains(got, want[0]) {
		t.Errorf("the links are %q, want the sandbox's", got)
	}

	stray := startSpeaker(t, cgroup)
	stray.tell("move", scratchCgroup(t))
	awaitRoot(t, tracer, true)
	r.kill(t)
	stray.tell("ask", fmt.Sprintf("%d.load.example.com", asked))
	asked++
	ask()
	tracer = openPinned(t, pinned(dir), event.PinningAdopted)
	lingerNot(t, tracer)
	r = told.read(t, tracer)
	ask()
	told.once(t, asked)
	stray.end()
	awaitRoot(t, tracer, false)
	r.kill(t)
}

// TestKernelPlacesDegraded checks that a probe which cannot hang at the root cgroup where it must says so, and works on.
func TestKernelPlacesDegraded(t *testing.T) {
	requireKernel(t)
	w := startWatchOpened(t, func() (*Tracer, error) {
		tracer, err := newTracer(testConfig())
		if err != nil {
			return nil, err
		}
		for i := range tracer.probes {
			load := tracer.probes[i].load
			tracer.probes[i].load = func() (*ebpf.CollectionSpec, error) {
				spec, err := load()
				for name := range spec.Programs {
					if strings.HasSuffix(name, restSuffix) {
						delete(spec.Programs, name)
					}
				}
				return spec, err
			}
		}
		return tracer, tracer.open()
	})
	w.tracer.places.max = 1
	other := scratchCgroup(t)
	if err := w.tracer.Track(cgroupID(t, other)); err != nil {
		t.Fatal(err)
	}
	if got := w.packetProbe(); got.Attached || !strings.Contains(got.Err, errNoRestOfThem.Error()) {
		t.Errorf("the probe is told as %+v", got)
	}
	startSpeaker(t, w.cgroup).tell("ask", "on.example.com")
	w.toldOnce("a question of a sandbox that has a place", asked("on.example.com"), w.id)
	if err := w.tracer.Untrack(cgroupID(t, other)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !w.packetProbe().Attached; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the probe is told as %+v when nothing is to be seen at the root cgroup", w.packetProbe())
		}
	}
}
