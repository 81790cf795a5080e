// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Ender is a Detector that remembers things of sessions or of process trees.
type Ender interface {
	// EndSession drops what is remembered of a session of a sandbox: it is over for endedFor, and no process that works
	// for it is left.
	EndSession(sandboxID, session string)
	// EndTree drops what is remembered of a process tree, named by its root (watchglass.process.root_uid): no process of
	// it is left, and records that come late have come.
	EndTree(sandboxID string, root event.ProcessID)
}

const (
	// endedFor is for how long a session that is over is still remembered: what it left behind may go on with what it
	// began, and its agent may resume it. While a process works for it, it is remembered so long again.
	endedFor = 30 * time.Minute
	// mostEnded is how many sessions of one sandbox that are over are remembered; the first goes first.
	mostEnded = 256
)

// ended is a session that is over, by one of its ids.
type ended struct {
	session string
	at      time.Time
}

// heed takes note of the end of a session, and that one goes on.
func (p *Pipeline) heed(e *event.Event) {
	if e.Sandbox == nil {
		return
	}
	switch payload := e.Payload.(type) {
	case *event.SessionStart:
		p.resumed(e.Sandbox, payload.Session)
		p.resumed(e.Sandbox, payload.Conversation)
	case *event.SessionEnd:
		p.over(e.Sandbox, payload.Session, e.Time)
		p.over(e.Sandbox, payload.Conversation, e.Time)
	}
}

func (p *Pipeline) over(sandbox *event.Sandbox, session string, at time.Time) {
	state := p.sandboxes[sandbox.CgroupID]
	if session == "" || state == nil || state.sandbox != sandbox {
		return
	}
	p.resumed(sandbox, session)
	if len(state.ended) >= mostEnded {
		p.endSession(sandbox.ID, state.ended[0].session)
		state.ended = slices.Delete(state.ended, 0, 1)
	}
	state.ended = append(state.ended, ended{session: strings.Clone(session), at: at})
}

func (p *Pipeline) resumed(sandbox *event.Sandbox, session string) {
	if state := p.sandboxes[sandbox.CgroupID]; state != nil && len(state.ended) > 0 {
		state.ended = slices.DeleteFunc(state.ended, func(e ended) bool { return e.session == session })
	}
}

// endSessions tells the detectors of the sessions that are over for long enough.
func (p *Pipeline) endSessions(state *sandboxState, now time.Time) {
	for n := len(state.ended); n > 0 && now.Sub(state.ended[0].at) >= endedFor; n-- {
		e := state.ended[0]
		state.ended = slices.Delete(state.ended, 0, 1)
		if p.tree.Works(state.sandbox.CgroupID, e.session) {
			e.at = now
			state.ended = append(state.ended, e)
			continue
		}
		p.endSession(state.sandbox.ID, e.session)
	}
}

func (p *Pipeline) endSession(sandboxID, session string) {
	for _, d := range p.detectors {
		if ender, ok := d.Detector.(Ender); ok && !d.broken {
			func() {
				defer p.rescue(d)
				ender.EndSession(sandboxID, session)
			}()
		}
	}
}

// endTrees tells the detectors of the process trees that are over.
func (p *Pipeline) endTrees() {
	for _, over := range p.tree.Over() {
		state := p.sandboxes[over.Sandbox]
		if state == nil {
			continue // it is gone, with all that was remembered of it
		}
		for _, d := range p.detectors {
			if ender, ok := d.Detector.(Ender); ok && !d.broken {
				func() {
					defer p.rescue(d)
					ender.EndTree(state.sandbox.ID, over.Root)
				}()
			}
		}
	}
}
