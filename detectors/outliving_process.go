// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

const (
	// outlivesAfter is for how long after its end the processes of a session may go on: they end one after the other.
	outlivesAfter = 30 * time.Second
	// mostOver is how many sessions of a sandbox that are over are looked after; the first goes first.
	mostOver = 64
	// mostOutlivers is how many processes are named.
	mostOutlivers = 16
)

// outlivingProcess reports processes that go on after the session that started them, and after their sandbox, and says
// when they have ended.
type outlivingProcess struct {
	remembering

	// alive is the processes that run for a session, by their identity.
	alive *memory.Memory[worker]
	// over is the sessions that are over, in the order of their ends.
	over []overSession
}

// worker is a process that runs for a session.
type worker struct {
	session, name string
	pid           uint32
}

// overSession is a session that is over. cause is its end, without its payload; told and title what was found of it.
type overSession struct {
	session string
	cause   event.Event
	told    repeats
	title   string
}

func newOutlivingProcess(cfg *Config) *outlivingProcess {
	d := &outlivingProcess{
		remembering: remembering{rule: event.Rule{
			ID: "outliving-process", UUID: "7d4e2f1c-9b3a-4c5d-8e6f-0a1b2c3d4e45", Version: "2",
			Title:    "Processes outlived their session",
			Severity: event.SeverityLow,
			Attack:   []string{"T1543", "T1571"}, ASI: []string{"ASI10"},
			Kinds: []event.Kind{
				event.KindProcessExec, event.KindProcessExit, event.KindSessionStart, event.KindSessionEnd, event.KindSandboxStop,
			},
			MemoryBound: "per sandbox max_entries processes, at most 512 bytes each, and 64 sessions; max_sandboxes sandboxes; least " +
				"recently used first; a process goes with its end or its session, a session half an hour after its end",
			FalsePositives: "30 s after the session's end, in which its processes may end; the agent's own program; a session that is resumed",
			Next: []string{
				"Look which processes they are, and what they listen on or connect to.",
				"End them unless they were meant to stay.",
			},
			Runbook: "docs/detectors/outliving-process.md",
		}},
		alive: memory.New[worker](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.alive}
	return d
}

// Detect implements Detector.
func (d *outlivingProcess) Detect(e *event.Event, report func(*event.Finding)) {
	if e.Sandbox == nil {
		return
	}
	switch p := e.Payload.(type) {
	case *event.ProcessExec:
		d.began(e)
	case *event.ProcessExit:
		d.ended(e, report)
	case *event.SessionStart:
		d.drop(e.Sandbox.ID, p.Session)
		d.drop(e.Sandbox.ID, p.Conversation)
	case *event.SessionEnd:
		d.sessionOver(e, p)
	case *event.SandboxStop:
		d.stopped(e, p, report)
	}
}

// began remembers a process of a session; what an agent's own program is goes on for other sessions.
func (d *outlivingProcess) began(e *event.Event) {
	session := sessionOf(e)
	if session == "" || e.Process == nil || e.Process.UID == 0 || ownProcess(e.Process) {
		return
	}
	key := d.alive.Key(uint64(e.Process.UID))
	if w := d.alive.Get(e.Sandbox.ID, key); w != nil && w.session == session && w.name == e.Process.Name {
		return
	}
	d.alive.Put(e.Sandbox.ID, key, worker{session: session, name: cut(program(e.Process), longestName), pid: e.Process.PID})
	give(d.alive, e, key)
}

// ended forgets a process, and says what that was the last of.
func (d *outlivingProcess) ended(e *event.Event, report func(*event.Finding)) {
	if e.Process == nil {
		return
	}
	key := d.alive.Key(uint64(e.Process.UID))
	w := d.alive.Get(e.Sandbox.ID, key)
	if w == nil {
		return
	}
	session := w.session
	d.alive.Drop(e.Sandbox.ID, key)
	i := slices.IndexFunc(d.over, func(o overSession) bool { return o.session == session && o.cause.Sandbox.ID == e.Sandbox.ID })
	if i >= 0 && d.over[i].told.id != "" && len(d.outlivers(&d.over[i])) == 0 {
		d.resolve(e, &d.over[i], "The last of them has ended.", report)
		d.over = slices.Delete(d.over, i, i+1)
	}
}

func (d *outlivingProcess) sessionOver(e *event.Event, end *event.SessionEnd) {
	session := cmp.Or(end.Session, end.Conversation)
	if session == "" {
		return
	}
	d.drop(e.Sandbox.ID, session)
	mine, first := 0, 0
	for i := range d.over {
		if d.over[i].cause.Sandbox.ID == e.Sandbox.ID {
			if mine++; mine == 1 {
				first = i
			}
		}
	}
	if mine >= mostOver {
		d.over = slices.Delete(d.over, first, first+1)
	}
	o := overSession{session: strings.Clone(session), cause: *e}
	o.cause.Payload = nil
	d.over = append(d.over, o)
}

// drop forgets a session: it goes on.
func (d *outlivingProcess) drop(sandbox, session string) {
	d.over = slices.DeleteFunc(d.over, func(o overSession) bool { return o.cause.Sandbox.ID == sandbox && o.session == session })
}

// outlivers is the processes of a session that are alive, as name[pid].
func (d *outlivingProcess) outlivers(o *overSession) []string {
	var names []string
	d.alive.Each(o.cause.Sandbox.ID, func(w *worker) {
		if w.session == o.session {
			names = append(names, w.name+"["+strconv.FormatUint(uint64(w.pid), 10)+"]")
		}
	})
	slices.Sort(names)
	return names
}

// Tick implements collector.Ticker: it looks who is left of the sessions that are over for a while.
func (d *outlivingProcess) Tick(now time.Time, report func(cause *event.Event, f *event.Finding)) {
	d.over = slices.DeleteFunc(d.over, func(o overSession) bool {
		return o.told.id == "" && now.Sub(o.cause.Time) >= outlivesAfter && len(d.outlivers(&o)) == 0
	})
	for i := range d.over {
		o := &d.over[i]
		if o.told.id != "" || now.Sub(o.cause.Time) < outlivesAfter {
			continue
		}
		left := d.outlivers(o)
		o.told.seen(&d.rule, &o.cause)
		o.title = outlived(len(left), left)
		report(&o.cause, &event.Finding{
			ID: o.told.id, Rule: &d.rule, State: event.FindingNew, Count: 1, Title: o.title,
			Explanation: new(explanation).say("The session is over for ", outlivesAfter.String(), ", and ", o.title, ".").who(o.cause.Process).String(),
			Objects:     left[:min(len(left), mostOutlivers)], Evidence: []string{o.cause.UID()},
		})
	}
}

// outlived is the sentence about so many processes, of which the first are named.
func outlived(n int, names []string) string {
	what := " processes outlived the session: "
	if n == 1 {
		what = " process outlived the session: "
	}
	return strconv.Itoa(n) + what + strings.Join(names[:min(len(names), mostOutlivers)], " ")
}

// stopped looks who is left of a sandbox: of one that watchglass run ended, nobody is any more.
func (d *outlivingProcess) stopped(e *event.Event, stop *event.SandboxStop, report func(*event.Finding)) {
	for i := range d.over {
		if o := &d.over[i]; o.told.id != "" && o.cause.Sandbox.ID == e.Sandbox.ID {
			d.resolve(e, o, "The sandbox is gone, or no longer watched.", report)
		}
	}
	d.over = slices.DeleteFunc(d.over, func(o overSession) bool { return o.cause.Sandbox.ID == e.Sandbox.ID })
	if stop.Outlived == 0 {
		return
	}
	o := overSession{title: outlived(stop.Outlived, stop.Outlivers)}
	o.told.seen(&d.rule, e)
	report(&event.Finding{
		ID: o.told.id, Rule: &d.rule, State: event.FindingNew, Count: 1, Title: o.title,
		Explanation: "The sandbox is gone, or no longer watched, and " + o.title + ".",
		Objects:     stop.Outlivers, Evidence: []string{e.UID()},
	})
	if stop.Left == 0 {
		d.resolve(e, &o, "They were ended with it.", report)
	}
}

// resolve says that what was found of a session is over.
func (d *outlivingProcess) resolve(e *event.Event, o *overSession, why string, report func(*event.Finding)) {
	report(&event.Finding{
		ID: o.told.id, Rule: &d.rule, State: event.FindingResolved, Count: 1, Title: o.title,
		Explanation: "It is over: " + o.title + ". " + why, Evidence: []string{e.UID()},
	})
}

// EndSession implements Detector.
func (d *outlivingProcess) EndSession(sandboxID, session string) {
	d.remembering.EndSession(sandboxID, session)
	d.drop(sandboxID, session)
}

// Forget implements Detector.
func (d *outlivingProcess) Forget(sandboxID string) {
	d.remembering.Forget(sandboxID)
	d.over = slices.DeleteFunc(d.over, func(o overSession) bool { return o.cause.Sandbox.ID == sandboxID })
}
