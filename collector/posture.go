// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

const (
	// examineDelay is for how long a sandbox is left to set itself up before its posture is looked at.
	examineDelay = 300 * time.Millisecond
	// examineTries is how often that is tried: the process that is looked at may end meanwhile.
	examineTries = 3
	// examineAgain is how often it is looked at again; only a posture that is another is told.
	examineAgain = 5 * time.Minute
)

// posture is what is known of a sandbox's set-up.
type posture struct {
	// examined is true once it was looked at, or no longer is tried; looking while it is looked at.
	examined, looking bool
	tries             int
	// at is when it was looked at last, who the process that was, found what it showed.
	at    time.Time
	who   event.ProcessID
	found *event.SandboxPosture
}

// examine looks at a sandbox's posture when it has had time to set itself up, and now and then after. The caller holds mu;
// reading /proc does not, so that nothing waits for it.
func (p *Pipeline) examine(state *sandboxState, now time.Time) {
	known := &state.posture
	if p.s.Examine == nil || known.looking || !state.started || !state.stopped.IsZero() || now.Sub(state.firstSeen) < examineDelay ||
		known.examined && (known.found == nil || now.Sub(known.at) < examineAgain) {
		return
	}
	who := p.examined(state)
	if who == nil {
		return
	}
	known.examined, known.looking, known.at = true, true, now
	known.tries++
	sandbox := state.sandbox
	p.background.Go(func() {
		found, err := p.s.Examine(who.PID, sandbox)
		p.mu.Lock()
		defer p.mu.Unlock()
		known.looking = false
		switch {
		case err != nil:
			known.examined = known.found != nil || known.tries >= examineTries
		case !state.stopped.IsZero() || known.found.Same(found):
			known.who = who.UID
		default:
			known.found, known.who = found, who.UID
			p.publish(&event.Event{Time: now, Sandbox: sandbox, Process: who, Payload: found})
		}
	})
}

// examined is the process whose posture stands for the sandbox: the agent's own where it is known, else the one that
// was looked at before, else the youngest, since launchers come first and are less confined.
func (p *Pipeline) examined(state *sandboxState) *event.Process {
	var youngest *event.Process
	for _, process := range p.tree.Live(state.sandbox.CgroupID) {
		if agent.IsAgent(process.Agent) {
			return process
		}
		if state.posture.who == 0 || process.UID == state.posture.who {
			youngest = process
		}
	}
	return youngest
}
