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
)

// examine looks at a sandbox's posture, once, when it has had time to set itself up. The caller holds mu; reading
// /proc does not, so that nothing waits for it.
func (p *Pipeline) examine(state *sandboxState, now time.Time) {
	if p.s.Examine == nil || state.examined || !state.started || !state.stopped.IsZero() || now.Sub(state.firstSeen) < examineDelay {
		return
	}
	who := p.examined(state)
	if who == nil {
		return
	}
	state.examined = true
	state.examinations++
	sandbox := state.sandbox
	p.background.Go(func() {
		posture, err := p.s.Examine(who.PID, sandbox)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			state.examined = state.examinations >= examineTries
			return
		}
		p.publish(&event.Event{Time: now, Sandbox: sandbox, Process: who, Payload: posture})
	})
}

// examined is the process whose posture stands for the sandbox: the agent's own where it is known, else the
// youngest, since launchers come first and are less confined.
func (p *Pipeline) examined(state *sandboxState) *event.Process {
	var youngest *event.Process
	for _, process := range p.tree.Live(state.sandbox.CgroupID) {
		if agent.IsAgent(process.Agent) {
			return process
		}
		youngest = process
	}
	return youngest
}
