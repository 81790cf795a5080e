// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// everything is all there is to detect with: the built-in detectors and rules, and a hundred rules of users.
type everything struct {
	oversight *detectors.Oversight
	byKind    map[event.Kind][]detectors.Looker
	all       []detectors.Detector
	engine    *Engine
}

func newEverything(t testing.TB, limits Limits) *everything {
	t.Helper()
	cfg := detectors.DefaultConfig()
	cfg.MaxSandboxes, cfg.MaxEntries = limits.MaxSandboxes, limits.MaxEntries
	cfg.Canaries = []string{"/root/.aws/backup-credentials", "trap.example.net", "AKIACANARYCANARYCANARY"}
	cfg.Policy = detectors.Policy{
		SecretAllowed: func(string, string) bool { return false },
		Allowed:       func(_ event.Transport, peer netip.AddrPort) bool { return peer.Addr().IsLoopback() },
		Observing:     func() bool { return false },
	}
	cfg.Usual = detectors.NewBaselines(&cfg)
	profiles, err := detectors.NewProfiles([]detectors.ProfileConfig{
		{Agent: "claude*", Project: "/home/*/x", Severity: map[string]string{"secret-read": "low"}},
	}, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	x := &everything{oversight: detectors.NewOversight(cfg.Usual, profiles), byKind: map[event.Kind][]detectors.Looker{}}
	if x.all, err = detectors.New(&cfg); err != nil {
		t.Fatal(err)
	}
	sources, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	set, err := Load(append(sources, hundredSource())...)
	if err != nil {
		t.Fatal(err)
	}
	x.engine = NewEngine(set, limits, slog.New(slog.DiscardHandler))
	for _, d := range append(x.all, detectors.Detector(x.engine)) {
		for _, kind := range d.Rule().Kinds {
			x.byKind[kind] = append(x.byKind[kind], d)
		}
	}
	return x
}

// show shows an event to all that want it, as the pipeline does.
func (x *everything) show(e *event.Event, report func(*event.Finding)) {
	for _, d := range x.byKind[e.Kind()] {
		x.oversight.Show(d, e, report)
	}
}

// stats is what all of them remember, by name.
func (x *everything) stats() map[string]event.DetectorStats {
	all := map[string]event.DetectorStats{}
	for _, d := range append(x.all, detectors.Detector(x.engine)) {
		s := d.Stats()
		all[s.Name] = s
	}
	return all
}

// flood makes the n-th event of a flood that is aimed at what detectors remember: nothing in it comes twice.
type flood struct {
	sandbox *event.Sandbox
	rules   *everything
	n       int
	now     time.Time
}

func (f *flood) event(payload event.Payload) *event.Event {
	f.n++
	f.now = f.now.Add(20 * time.Microsecond)
	name := strconv.Itoa(f.n)
	p := &event.Process{
		UID: event.ProcessID(f.n + 1000), RootUID: event.ProcessID(f.n + 1000), PID: uint32(f.n), Name: "bash", Executable: "/tmp/" + name,
		Args: []string{name}, Agent: &event.Agent{Name: "codex", SessionID: "session-" + name, CallID: "call-" + name},
	}
	return &event.Event{Time: f.now, Instance: "t", Seq: uint64(f.n), Sandbox: f.sandbox, Process: p, Payload: payload}
}

// floods is what can be made without end: paths, domains, addresses, and with each of them pids, sessions and calls.
func floods() map[string]func(n int) event.Payload {
	peer := func(n int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, byte(n >> 16), byte(n >> 8), byte(n)}), 443)
	}
	return map[string]func(n int) event.Payload{
		"secrets": func(n int) event.Payload {
			return &event.FileOpen{Path: "/srv/" + strconv.Itoa(n) + "/key", Access: event.AccessRead, Class: event.FileClassSecret, Inode: uint64(n + 1)}
		},
		"written": func(n int) event.Payload {
			return &event.FileOpen{Path: "/tmp/" + strconv.Itoa(n), Access: event.AccessWrite, Created: true, Mode: 0o100755, Inode: uint64(n + 1)}
		},
		"removed": func(n int) event.Payload {
			return &event.FileChange{Operation: event.FileUnlink, Path: "/srv/" + strconv.Itoa(n) + "/.git/HEAD"}
		},
		"programs": func(n int) event.Payload {
			return &event.ProcessExec{Executable: "/tmp/" + strconv.Itoa(n), Origin: event.OriginMemfd, WorkingDirectory: "/" + strconv.Itoa(n), Inode: uint64(n)}
		},
		"domains": func(n int) event.Payload {
			return &event.DNSQuery{Name: strconv.Itoa(n) + ".evil" + strconv.Itoa(n) + ".test", Type: "TXT"}
		},
		"peers": func(n int) event.Payload {
			return &event.NetworkConnect{Transport: event.TransportTCP, Peer: peer(n), PeerName: strconv.Itoa(n) + ".test"}
		},
		"flows": func(n int) event.Payload {
			return &event.NetworkFlow{Transport: event.TransportTCP, Peer: peer(n), Sent: 1 << 20}
		},
		"claims": func(n int) event.Payload {
			return &event.ToolCall{
				Claim: event.Claim{Agent: "codex", Session: "s" + strconv.Itoa(n)}, ID: strconv.Itoa(n), Phase: event.PhaseStart, Name: "shell" + strconv.Itoa(n),
			}
		},
		"calls": func(n int) event.Payload { return &event.SyscallNotable{Name: "unshare" + strconv.Itoa(n)} },
	}
}

// TestFlood: a million events, each of another path, domain, address, process, session and call, are aimed by one
// sandbox at what detectors remember. All bounds hold, and what another sandbox does all the while is found.
func TestFlood(t *testing.T) {
	events := 1_000_000
	if testing.Short() || testenv.RaceDetector {
		events = 50_000
	}
	limits := Limits{MaxSandboxes: 4, MaxEntries: 256}
	x := newEverything(t, limits)
	victim := newVictim()
	early := map[string]bool{}
	for _, e := range victim.before() {
		x.show(e, func(f *event.Finding) { early[f.Rule.ID] = true })
	}
	if len(early) != 2 || !early["secret-read"] || !early["off-policy-connect"] {
		t.Errorf("before the flood %v were found", early)
	}
	before, baseline := heap(), x.stats()
	f := &flood{sandbox: &event.Sandbox{ID: "flood"}, rules: x, now: victim.now}
	kinds := floods()
	found := 0
	for name, make := range kinds {
		for n := range events / len(kinds) {
			x.show(f.event(make(n)), func(*event.Finding) { found++ })
		}
		for id, s := range x.stats() {
			// One sandbox of four cannot have more than its share.
			if share := s.Most / limits.MaxSandboxes; s.Entries-baseline[id].Entries > share {
				t.Errorf("%s: %s remembers %d entries of the flood, at most %d", name, id, s.Entries-baseline[id].Entries, share)
			}
		}
	}
	total, evicted := 0, uint64(0)
	for _, s := range x.stats() {
		total, evicted = total+s.Entries, evicted+s.Evicted
	}
	// An entry is at most 1 KiB here, with its map and its list: sessions of the baselines are 8 KiB, but 64 at most.
	grown, bound := heap()-before, int64(total)<<10+64*8<<10
	// Of each rule so many in ten minutes, and then one for all the rest: whoever reads them is not flooded either.
	if found > 10_000 {
		t.Errorf("the flood made %d reports", found)
	}
	t.Logf("%d events, %d reports, %d entries, %d evicted, the heap grew by %d KiB", f.n, found, total, evicted, grown>>10)
	if grown > bound {
		t.Errorf("the heap grew by %d bytes for %d entries, at most %d", grown, total, bound)
	}
	if evicted == 0 {
		t.Error("nothing was evicted: it was no flood")
	}
	got := map[string]bool{}
	for _, e := range victim.after() {
		x.show(e, func(f *event.Finding) { got[f.Rule.ID] = true })
	}
	for _, want := range []string{"secret-egress", "unbacked-exec", "canary", "beaconing", "mass-destruction"} {
		if !got[want] {
			t.Errorf("%s in another sandbox was not found under the flood", want)
		}
	}
	x.forget(t, "flood")
}

// forget shows that everything of a sandbox goes with it.
func (x *everything) forget(t *testing.T, sandbox string) {
	t.Helper()
	for _, d := range append(x.all, detectors.Detector(x.engine)) {
		d.Forget(sandbox)
	}
	for id, s := range x.stats() {
		if s.Entries > 64 { // the victim's few, and what was learned
			t.Errorf("%s still has %d entries", id, s.Entries)
		}
	}
}

// heap is how much is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// victim is an attack in another sandbox whose first half comes before the flood and whose second half after it.
type victim struct {
	sandbox *event.Sandbox
	process *event.Process
	now     time.Time
	seq     uint64
}

func newVictim() *victim {
	return &victim{
		sandbox: &event.Sandbox{ID: "victim"}, now: time.Unix(1_800_000_000, 0),
		process: &event.Process{
			UID: 7, RootUID: 7, PID: 7, Name: "python3", Executable: "/usr/bin/python3", Args: []string{"python3"},
			Agent: &event.Agent{Name: "codex", SessionID: "s", CallID: "c"},
		},
	}
}

func (v *victim) events(step time.Duration, payloads ...event.Payload) []*event.Event {
	var all []*event.Event
	for _, payload := range payloads {
		v.now, v.seq = v.now.Add(step), v.seq+1
		all = append(all, &event.Event{Time: v.now, Instance: "v", Seq: v.seq, Sandbox: v.sandbox, Process: v.process, Payload: payload})
	}
	return all
}

// before is the first half: a beacon's first beats, a program put into place, most of the files, and a secret that is
// read, which is found at once.
func (v *victim) before() []*event.Event {
	var beats, removals []event.Payload
	for range 10 {
		beats = append(beats, v.beat())
	}
	for i := range 290 {
		removals = append(removals, &event.FileChange{Operation: event.FileUnlink, Path: fmt.Sprint("/work/src/", i)})
	}
	all := v.events(30*time.Second, beats...)
	all = append(all, v.events(time.Millisecond, removals...)...)
	return append(all, v.events(
		time.Millisecond,
		&event.FileOpen{Path: "/tmp/tool", Access: event.AccessWrite, Created: true, Mode: 0o100755, Inode: 77},
		&event.FileOpen{Path: "/root/.ssh/id_ed25519", Access: event.AccessRead, Class: event.FileClassSecret, Inode: 78},
	)...)
}

// after is the second half, which needs what the first left behind.
func (v *victim) after() []*event.Event {
	all := v.events(29*time.Second,
		&event.NetworkFlow{Transport: event.TransportTCP, Peer: netip.MustParseAddrPort("203.0.113.9:443"), Sent: 4096})
	var removals []event.Payload
	for i := range 20 {
		removals = append(removals, &event.FileChange{Operation: event.FileUnlink, Path: fmt.Sprint("/work/lib/", i)})
	}
	removals = append(
		removals, &event.ProcessExec{Executable: "/tmp/tool", Inode: 77},
		&event.FileOpen{Path: "/root/.aws/backup-credentials", Access: event.AccessRead, Inode: 79},
	)
	return append(append(all, v.events(time.Millisecond, removals...)...), v.events(700*time.Millisecond, v.beat())...)
}

func (*victim) beat() event.Payload {
	return &event.NetworkConnect{Transport: event.TransportTCP, Peer: netip.MustParseAddrPort("203.0.113.9:443")}
}
