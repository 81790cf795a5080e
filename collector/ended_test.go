// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// endedDetector notes what it is told to forget.
type endedDetector struct {
	fakeDetector
	ended []string
}

func (d *endedDetector) EndSession(sandboxID, session string) {
	d.ended = append(d.ended, sandboxID+" session "+session)
}

func (d *endedDetector) EndTree(sandboxID string, root event.ProcessID) {
	d.ended = append(d.ended, sandboxID+" tree "+root.String())
}

// long is a sandbox that lives long, with an agent in it.
type long struct {
	t        *testing.T
	p        *Pipeline
	detector *endedDetector
	now      time.Time
}

func newLong(t *testing.T) *long {
	t.Helper()
	l := &long{t: t, now: record(100, nil).Time, detector: &endedDetector{fakeDetector: fakeDetector{
		rule: event.Rule{ID: "x", Kinds: []event.Kind{event.KindProcessExec}}, find: func(*event.Event) *event.Finding { return nil },
	}}}
	l.p = newTestPipeline(t, Settings{Exporters: []ExporterSettings{{Exporter: &fakeExporter{}}}, Detectors: []Detector{l.detector}})
	l.p.handle(made())
	l.p.handle(of(l.now, 100, 0, &event.ProcessExec{Executable: "/opt/bin/codex", Args: []string{"codex"}}))
	return l
}

// tool starts a process of a session's call; its identity.
func (l *long) tool(pid uint32, session string) event.ProcessID {
	env := []event.EnvVar{{Name: "CODEX_TOOL_CALL_ID", Value: "call_0"}, {Name: "CODEX_THREAD_ID", Value: session}}
	r := of(l.now, pid, 100, &event.ProcessExec{Executable: "/bin/sh", Args: []string{"sh", "-c", "x"}, Env: env})
	l.p.handle(r)
	return l.p.tree.Seen(r).UID
}

func (l *long) say(payload event.Said) {
	task := of(l.now, 100, 0, nil).Task
	l.p.claim(&agent.Statement{Origin: agent.Origin{Sandbox: 10, PID: 100, Start: task.Start}, Time: l.now, Claim: payload}, l.now)
}

// ends lets time pass; what the detectors were told to forget meanwhile.
func (l *long) ends(pass time.Duration) []string {
	l.p.tick(l.now) // what ended is known to have ended
	l.now = l.now.Add(pass)
	l.p.tick(l.now)
	ended := l.detector.ended
	l.detector.ended = nil
	return ended
}

func (l *long) want(got, want []string) {
	l.t.Helper()
	if !slices.Equal(got, want) {
		l.t.Errorf("ended %q, want %q", got, want)
	}
}

// TestSessionsAndTreesEnd: detectors are told of a process tree when its last process is gone, and of a session half an
// hour after its end, or later while something works for it; not of one that goes on.
func TestSessionsAndTreesEnd(t *testing.T) {
	l := newLong(t)
	const first, second = "thread-0000000000000001", "thread-0000000000000002"
	claim := func(session string) event.Claim {
		return event.Claim{Agent: "codex", Session: session, Channel: event.ChannelHook}
	}
	l.say(&event.SessionStart{Claim: claim(first)})
	outlives := l.tool(200, first)
	quick := l.tool(201, first)
	l.p.handle(of(l.now, 201, 100, &event.ProcessExit{}))
	l.want(l.ends(processGrace+time.Second), []string{"s1 tree " + quick.String()})
	l.say(&event.SessionEnd{Claim: claim(first)})
	l.want(l.ends(endedFor-time.Minute), nil)
	l.want(l.ends(2*time.Minute), nil) // its process goes on
	l.p.handle(of(l.now, 200, 100, &event.ProcessExit{}))
	l.want(l.ends(processGrace+time.Second), []string{"s1 tree " + outlives.String()})
	l.want(l.ends(endedFor), []string{"s1 session " + first})
	// One that is resumed is not over.
	l.say(&event.SessionStart{Claim: claim(second)})
	l.say(&event.SessionEnd{Claim: claim(second)})
	l.ends(time.Minute)
	l.say(&event.SessionStart{Claim: claim(second)})
	l.want(l.ends(2*endedFor), nil)
	l.say(&event.SessionEnd{Claim: claim(second)})
	l.want(l.ends(endedFor), []string{"s1 session " + second})
}

// TestEndedSessionsAreBounded: a sandbox whose sessions end without end has the first of them forgotten at once.
func TestEndedSessionsAreBounded(t *testing.T) {
	l := newLong(t)
	state := l.p.sandboxes[10]
	for i := range 2 * mostEnded {
		l.p.over(state.sandbox, fmt.Sprint("s", i), l.now)
	}
	if len(state.ended) != mostEnded || len(l.detector.ended) != mostEnded || l.detector.ended[0] != "s1 session s0" {
		t.Errorf("%d wait, %d were told: %v", len(state.ended), len(l.detector.ended), l.detector.ended[:1])
	}
}
