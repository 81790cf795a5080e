// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// A hook is a process that lives for milliseconds: what it says comes before the records of its birth are read. Who
// started it decides whether it speaks for the agent, so that its statement waits for them.
const (
	// earlyPatience is how long a statement waits. Records are read every 20 ms, later where much waits.
	earlyPatience = time.Second
	// maxEarly bounds the statements of one sandbox that wait.
	maxEarly = 64
)

// early is a statement that waits.
type early struct {
	statement *agent.Statement
	at        time.Time
}

// tooEarly says whether a statement came before the news of the processes that it is of.
func (p *Pipeline) tooEarly(s *agent.Statement) bool {
	if s.Claim.Said().Channel != event.ChannelHook || p.sandboxes[s.Origin.Sandbox] == nil {
		return false
	}
	return p.unheardOf(s.Origin) || p.unheardOf(s.Via)
}

func (p *Pipeline) unheardOf(o agent.Origin) bool { return o.Known() && p.tree.Locate(o) == nil }

// hold keeps a statement that came too early. False means that it does not have to wait, or cannot.
func (p *Pipeline) hold(s *agent.Statement, now time.Time) bool {
	waiting, behind := 0, false
	for i := range p.early {
		if other := p.early[i].statement; other.Origin.Sandbox == s.Origin.Sandbox {
			waiting++
			behind = behind || other.Origin == s.Origin // its agent's statements keep their order
		}
	}
	if !behind && !p.tooEarly(s) || waiting >= maxEarly {
		return false
	}
	p.early = append(p.early, early{s, now})
	return true
}

// catchUp takes the statements whose processes are known by now, and those that have waited for too long.
func (p *Pipeline) catchUp(now time.Time) {
	var blocked []agent.Origin
	kept := p.early[:0]
	for _, e := range p.early {
		late := now.Sub(e.at) >= earlyPatience
		behind := false
		for _, o := range blocked {
			behind = behind || o == e.statement.Origin
		}
		if !late && (behind || p.tooEarly(e.statement)) {
			blocked = append(blocked, e.statement.Origin)
			kept = append(kept, e)
			continue
		}
		p.take(e.statement, e.at)
	}
	clear(p.early[len(kept):])
	p.early = kept
}

// born says whether a record can be the news that a statement waits for.
func born(r *bpf.Record) bool {
	switch r.Payload.(type) {
	case *bpf.Fork, *bpf.Existing, *event.ProcessExec:
		return true
	}
	return false
}
