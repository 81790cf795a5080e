// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/session"
	"github.com/watchglass/watchglass/event"
)

// joined is a pipeline in which process 102 works for a call of a Codex session, and 103 for it.
func joined(t testing.TB, now time.Time) *Pipeline {
	t.Helper()
	p := newTestPipeline(t, Settings{Exporters: []ExporterSettings{{Exporter: &counter{}, QueueSize: 1}}})
	p.handle(made())
	p.handle(of(now, 101, 1, &event.ProcessExec{Executable: "/opt/bin/codex", Args: []string{"codex"}}))
	env := []event.EnvVar{{Name: "CODEX_TOOL_CALL_ID", Value: "call_1"}, {Name: "CODEX_THREAD_ID", Value: "thread-0000000000000001"}}
	p.handle(of(now, 102, 101, &event.ProcessExec{Executable: "/bin/bash", Args: []string{"bash", "-c", "make"}, Env: env}))
	p.handle(of(now, 103, 102, &bpf.Fork{}))
	return p
}

func of(now time.Time, pid, parent uint32, payload any) *bpf.Record {
	return &bpf.Record{
		Time: now, Sandbox: 10, Cgroup: 10, Payload: payload,
		Task: bpf.Task{PID: pid, TID: pid, ParentPID: parent, Start: uint64(pid) * 1e6, ParentStart: uint64(parent) * 1e6, StartTime: now},
	}
}

// TestSessionAllocations holds what sessions add to an event of a call's process to its budget: nothing. The one
// allocation is the event itself.
func TestSessionAllocations(t *testing.T) {
	now := time.Now()
	p := joined(t, now)
	peer := netip.MustParseAddrPort("192.0.2.1:443")
	for name, payload := range map[string]any{
		"open":    &event.FileOpen{Path: "/src/main.c", Access: event.AccessRead},
		"connect": &event.NetworkConnect{Transport: event.TransportTCP, Peer: peer, Local: netip.MustParseAddrPort("10.0.0.1:4000")},
		"flow":    &event.NetworkFlow{Transport: event.TransportTCP, Peer: peer, Sent: 1},
	} {
		for _, pid := range []uint32{101, 102, 103} {
			r := of(now, pid, pid-1, payload)
			for range 2 * 256 { // until every ring is full
				p.handle(r)
			}
			if n := testing.AllocsPerRun(1000, func() { p.handle(r) }); n > 1 {
				t.Errorf("%v allocations for the %s of process %d", n, name, pid)
			}
		}
	}
}

func BenchmarkSessionOpen(b *testing.B) {
	now := time.Now()
	p := joined(b, now)
	r := of(now, 103, 102, &event.FileOpen{Path: "/src/main.c", Access: event.AccessRead})
	b.ReportAllocs()
	for b.Loop() {
		p.handle(r)
	}
}

// TestSessionsAreBounded opens 10,000 sessions in one sandbox, which takes nothing from the session of another.
func TestSessionsAreBounded(t *testing.T) {
	p := newTestPipeline(t, Settings{
		Exporters: []ExporterSettings{{Exporter: &counter{}, QueueSize: 1}},
		Sessions:  session.Config{MaxSessions: 100, MaxCalls: 10, MaxTurns: 10, MaxRoots: 50, MaxBytes: 1 << 16},
	})
	now := time.Now()
	p.handle(&bpf.Record{Time: now, Payload: &bpf.CgroupMade{ID: 10, Path: "/s1"}})
	p.handle(&bpf.Record{Time: now, Payload: &bpf.CgroupMade{ID: 20, Path: "/s2"}})
	quiet := of(now, 200, 1, &event.ProcessExec{Executable: "/opt/bin/claude", Args: []string{"claude"}})
	quiet.Sandbox, quiet.Cgroup = 20, 20
	p.handle(quiet)
	p.claim(&agent.Statement{
		Origin: agent.Origin{Sandbox: 20, PID: 200, Start: 200 * 1e6}, Time: now,
		Claim: &event.Prompt{Claim: event.Claim{Agent: "claude-code", Session: "quiet-0000000000000001"}, Text: "the quiet one's"},
	}, now)
	long := strings.Repeat("x", 1<<16)
	for i := range 10_000 {
		pid := uint32(1000 + i)
		p.handle(of(now, pid, 1, &event.ProcessExec{Executable: "/opt/bin/codex", Args: []string{"codex"}}))
		claim := event.Claim{Agent: "codex", Session: fmt.Sprintf("noisy-%016d", i), ParentSession: fmt.Sprintf("noisy-%016d", i+1)}
		say := func(said event.Said) {
			p.claim(&agent.Statement{Origin: agent.Origin{Sandbox: 10, PID: pid, Start: uint64(pid) * 1e6}, Time: now, Claim: said}, now)
		}
		say(&event.Prompt{Claim: claim, Text: long})
		say(&event.ToolCall{Claim: claim, Phase: event.PhaseEnd, ID: "call", Name: long, Command: long, Arguments: long})
		say(&event.Approval{Claim: claim, ID: long, State: event.ApprovalDenied})
		p.handle(of(now, pid+20_000, pid, &event.ProcessExec{Executable: "/bin/bash", Args: []string{"bash", "-c", long}}))
		p.handle(of(now, pid+20_000, pid, &event.FileOpen{Path: "/" + long[:4000], Access: event.AccessRead}))
		p.handle(of(now, pid+20_000, pid, &event.ProcessExit{Exited: now}))
		p.handle(of(now, pid, 1, &event.ProcessExit{Exited: now}))
		if i%100 == 0 {
			now = now.Add(time.Second)
			p.tick(now)
		}
	}
	s := p.Stats().Sessions
	if s.Remembered > 100 || s.Roots > 50 || s.SessionsEvicted < 9000 || s.ObjectsOmitted == 0 {
		t.Errorf("%+v", s)
	}
	if got := p.Session("quiet-0000000000000001"); len(got) != 1 || len(got[0].Turns) != 1 || got[0].Turns[0].Prompt == "" || !got[0].Ended.IsZero() {
		t.Errorf("the quiet sandbox's session: %+v", got)
	}
	// One that has calls and turns without end.
	claim := event.Claim{Agent: "claude-code", Session: "quiet-0000000000000001"}
	for i := range 1000 {
		for _, said := range []event.Said{
			&event.Prompt{Claim: event.Claim{Agent: "claude-code", Session: claim.Session, Turn: fmt.Sprint(i)}},
			&event.ToolCall{Claim: claim, Phase: event.PhaseStart, ID: fmt.Sprint(i), Name: "Bash", Command: fmt.Sprint(i)},
		} {
			p.claim(&agent.Statement{Origin: agent.Origin{Sandbox: 20, PID: 200, Start: 200 * 1e6}, Time: now, Claim: said}, now)
		}
	}
	got := p.Session("quiet-0000000000000001")
	if len(got) != 1 || len(got[0].Turns) > 10 || got[0].CallCount != 1000 || got[0].TurnCount != 1001 {
		t.Fatalf("%+v", got)
	}
	calls := 0
	for _, turn := range got[0].Turns {
		calls += len(turn.Calls)
	}
	if s := p.Stats().Sessions; calls > 10 || s.CallsEvicted < 990 || s.TurnsEvicted < 990 {
		t.Errorf("%d calls, %+v", calls, s)
	}
	p.handle(&bpf.Record{Time: now, Payload: &bpf.CgroupGone{ID: 10}})
	p.handle(&bpf.Record{Time: now, Payload: &bpf.CgroupGone{ID: 20}})
	p.claim(&agent.Statement{
		Origin: agent.Origin{Sandbox: 20, PID: 200, Start: 200 * 1e6}, Time: now,
		Claim: &event.Prompt{Claim: event.Claim{Agent: "claude-code", Session: "late-0000000000000001"}},
	}, now)
	if s := p.Stats().Sessions; s.Live != 1 {
		t.Errorf("a late claim: %+v", s)
	}
	p.tick(now.Add(2 * lingerInterval))
	p.finish(now)
	if s := p.Stats().Sessions; s.Live != 0 || s.Roots != 0 {
		t.Errorf("left: %+v", s)
	}
}

// FuzzSessions takes any order of what the kernel and agents tell: nothing panics, and nothing outgrows its bound.
func FuzzSessions(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"))
	f.Add([]byte("\x00\x10\x20\x11\x21\x12\x22\x83\x94\xa5\xb6\xc7\xd8\xe9\xfa\x0b\x1c"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		steps = steps[:min(len(steps), 1024)]
		p := newTestPipeline(t, Settings{
			Exporters: []ExporterSettings{{Exporter: &counter{}, QueueSize: 1}},
			Sessions:  session.Config{MaxSessions: 4, MaxCalls: 3, MaxTurns: 2, MaxRoots: 5, MaxObjects: 3, MaxBytes: 1 << 12},
		})
		now := time.Unix(1_700_000_000, 0)
		for _, path := range []string{"/s1", "/s2"} {
			p.handle(&bpf.Record{Time: now, Payload: &bpf.CgroupMade{ID: uint64(path[2]-'0') * 10, Path: path}})
		}
		for i, b := range steps {
			now = now.Add(time.Duration(b) * 10 * time.Millisecond)
			fuzzStep(p, i, b, now)
		}
		p.Sessions()
		s := p.Stats().Sessions
		if s.Remembered > 4 || s.Roots > 5 {
			t.Fatalf("%+v", s)
		}
		p.finish(now)
	})
}

func fuzzStep(p *Pipeline, i int, b byte, now time.Time) {
	sandbox, pid := uint64(10+10*(b>>7)), uint32(100+b>>4&7)
	parent := pid - 1
	id := []string{"", "session-0000000000000001", "session-0000000000000002", "x"}[b>>2&3]
	call := []string{"", "call_1", "call_2"}[int(b>>3)%3]
	handle := func(payload any) {
		r := of(now, pid, parent, payload)
		r.Sandbox, r.Cgroup = sandbox, sandbox
		p.handle(r)
	}
	claim := event.Claim{Agent: "codex", Session: id, Turn: call, Channel: event.ChannelLog, ParentSession: id}
	say := func(said event.Said) {
		p.claim(&agent.Statement{Origin: agent.Origin{Sandbox: sandbox, PID: pid, Start: uint64(pid) * 1e6}, Time: now.Add(time.Duration(int8(b)) * time.Minute), Claim: said}, now)
	}
	env := []event.EnvVar{{Name: "CODEX_TOOL_CALL_ID", Value: call}, {Name: "CODEX_THREAD_ID", Value: id}, {Name: "OPENCODE", Value: "1"}}
	switch (int(b) + i) % 16 {
	case 0:
		handle(&event.ProcessExec{Executable: "/opt/bin/codex", Args: []string{"codex"}})
	case 1:
		handle(&event.ProcessExec{Executable: "/bin/bash", Args: []string{"bash", "-c", "make " + call}, Env: env})
	case 2:
		handle(&bpf.Fork{})
	case 3:
		handle(&event.ProcessExit{Exited: now, Code: int(b)})
	case 4:
		handle(&event.FileOpen{Path: "/src/" + call, Access: event.AccessWrite, Class: event.FileClassSecret})
	case 5:
		handle(&event.NetworkConnect{Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(b)), Local: netip.MustParseAddrPort("127.0.0.1:5")})
	case 6:
		say(&event.SessionStart{Claim: claim, Sandbox: "read-only"})
	case 7:
		say(&event.Prompt{Claim: claim, Text: call})
	case 8:
		say(&event.ToolCall{Claim: claim, Phase: event.PhaseStart, ID: call, Name: "shell", Command: "make " + call})
	case 9:
		say(&event.ToolCall{Claim: claim, Phase: event.PhaseEnd, ID: call, Name: "shell", Command: "make " + call, Duration: time.Duration(b) * time.Second, HasExit: true, Shell: id})
	case 10:
		say(&event.Approval{Claim: claim, CallID: call, State: event.ApprovalDenied})
	case 11:
		say(&event.PolicyDecision{Claim: claim, Client: netip.MustParseAddrPort("127.0.0.1:5")})
	case 12:
		say(&event.SessionEnd{Claim: claim})
	case 13:
		p.tick(now)
	case 14:
		p.handle(&bpf.Record{Time: now, Sandbox: sandbox, Payload: &bpf.CgroupGone{ID: sandbox}})
		p.handle(&bpf.Record{Time: now, Payload: &bpf.CgroupMade{ID: sandbox, Path: fmt.Sprintf("/s%d", sandbox/10)}})
	case 15:
		p.Session(id)
	}
}
