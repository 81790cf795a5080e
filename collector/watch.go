// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// startDelay is for how long a sandbox's start waits for the processes that were there before, so that
// it can say how many they are. They come at once; the first other event ends the wait.
const startDelay = 200 * time.Millisecond

// stateOf is the sandbox of a record. Records may come for a while after it is gone.
func (p *Pipeline) stateOf(r *bpf.Record) *sandboxState {
	if s := p.s.Sandboxes.Lookup(r.Sandbox); s != nil {
		return p.know(s, r.Time)
	}
	return p.sandboxes[r.Sandbox]
}

// Know tells the pipeline at once of sandboxes that no record told of. It would find out by itself within
// a tick; but one that is no longer watched by then has records under way that would be a stranger's.
func (p *Pipeline) Know(sandboxes ...*event.Sandbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range sandboxes {
		p.know(s, time.Now())
	}
}

// know is the pipeline's own entry of a sandbox. A cgroup that is watched anew, after nobody did for a
// while, is another sandbox: who is still alive in it is told anew, who is not was not told.
func (p *Pipeline) know(s *event.Sandbox, now time.Time) *sandboxState {
	state := p.sandboxes[s.CgroupID]
	if state != nil && state.sandbox == s {
		return state
	}
	if state != nil {
		p.stop(state, now)
		p.losses.forget(state.sandbox)
		p.tree.Forget(s.CgroupID)
	}
	state = &sandboxState{sandbox: s, firstSeen: now}
	p.sandboxes[s.CgroupID] = state
	return state
}

// start publishes the start of a sandbox, once.
func (p *Pipeline) start(state *sandboxState, now time.Time) {
	if state.started || p.replaying {
		return
	}
	state.started = true
	p.publish(&event.Event{
		Time: now, Sandbox: state.sandbox, Payload: &event.SandboxStart{Processes: state.existing},
	})
}

// gone takes the news that a cgroup was removed.
func (p *Pipeline) gone(cgroupID uint64, now time.Time) {
	if state := p.sandboxes[cgroupID]; state != nil {
		// While the kernel still has its counts.
		p.summarise(state, now)
		p.countLosses()
		p.reportLosses(now)
	}
	if s := p.s.Sandboxes.Gone(cgroupID); s != nil {
		p.stop(p.know(s, now), now)
	}
}

// stop publishes the end of a sandbox. Its entry stays for a while.
func (p *Pipeline) stop(state *sandboxState, now time.Time) {
	if !state.stopped.IsZero() {
		return
	}
	p.start(state, now)
	p.sessions.Forget(state.sandbox, now)
	p.publishSessions()
	state.stopped = now
	alive := p.tree.Live(state.sandbox.CgroupID)
	left := alive
	if len(left) < len(state.outlived) {
		left = state.outlived
	}
	stop := &event.SandboxStop{Processes: state.processes, Outlived: len(left), Left: len(alive)}
	for _, process := range left[:min(len(left), mostOutlivers)] {
		stop.Outlivers = append(stop.Outlivers, named(process.Name)+"["+strconv.FormatUint(uint64(process.PID), 10)+"]")
	}
	p.publish(&event.Event{Time: now, Sandbox: state.sandbox, Payload: stop})
}

// mostOutlivers is how many of the processes that are alive at the end of a sandbox are named.
const mostOutlivers = 16

// Outlived says that these processes were alive when the sandbox was over, although they are not any more when it is
// told: whoever ended them asks for that.
func (p *Pipeline) Outlived(cgroupID uint64, left []*event.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if state := p.sandboxes[cgroupID]; state != nil {
		state.outlived = left
	}
}

// tick does what time asks for: starts and stops that no record told, losses, summaries, forgetting.
func (p *Pipeline) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.s.Sandboxes.Sandboxes() {
		p.know(s, now)
	}
	summarise := now.Sub(p.summary) >= p.s.SummaryInterval
	if summarise {
		p.summary = now
		p.summariseAll(now)
	}
	p.reportTakeover(now)
	p.reportProbes(now)
	p.countLosses()
	p.reportLosses(now)
	for id, state := range p.sandboxes {
		p.unanswered(state, now)
		switch {
		case !state.stopped.IsZero():
			if now.Sub(state.stopped) >= lingerInterval {
				p.drop(id, state)
			}
		case p.s.Sandboxes.Lookup(id) != state.sandbox:
			// No longer selected, or its cgroup was replaced by one of the same id.
			p.stop(state, now)
		case now.Sub(state.firstSeen) >= startDelay:
			p.start(state, now)
			p.examine(state, now)
		}
		p.endSessions(state, now)
	}
	p.catchUp(now)
	p.tickDetectors(now)
	p.sessions.Tick(now)
	p.publishSessions()
	p.tree.Expire(now)
	p.endTrees()
}

func (p *Pipeline) drop(id uint64, state *sandboxState) {
	// What was claimed since it stopped.
	p.sessions.Forget(state.sandbox, state.stopped)
	p.publishSessions()
	delete(p.sandboxes, id)
	p.tree.Forget(id)
	p.losses.forget(state.sandbox)
	p.forget(state.sandbox.ID)
}

// finish publishes what is left to say when the source has ended.
func (p *Pipeline) finish(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.summariseAll(now)
	p.countLosses()
	p.reportLosses(now)
	p.catchUp(now.Add(earlyPatience))
	p.sessions.Finish(now)
	p.publishSessions()
	for _, id := range slices.Sorted(maps.Keys(p.sandboxes)) {
		p.stop(p.sandboxes[id], now)
	}
}

// Alive is the processes of a sandbox that have not exited, as far as the records say, oldest first.
func (p *Pipeline) Alive(cgroupID uint64) []*event.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tree.Live(cgroupID)
}
