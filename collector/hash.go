// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"time"

	"github.com/watchglass/watchglass/collector/digest"
	"github.com/watchglass/watchglass/event"
)

// mostRoots is in how many ancestors' root directories a program is looked for whose process has ended.
const mostRoots = 8

// hash gives an exec the sum of its program where that is known, and has it read where it is not: then an event of its own
// tells it. The caller holds mu.
func (p *Pipeline) hash(state *sandboxState, exec *event.ProcessExec, who *event.Process, at time.Time) {
	if p.s.Digest == nil || p.replaying || exec.Inode == 0 || exec.Changed.IsZero() {
		return
	}
	request := digest.Request{
		Sandbox: state.sandbox.ID,
		File: digest.File{
			Inode: exec.Inode, Device: exec.Device, Changed: exec.Changed.UnixNano(), Modified: exec.Modified.UnixNano(),
		},
		Processes: []uint32{who.PID}, Path: exec.Executable, Executed: at.UnixNano(),
	}
	for ancestor := who.Parent; ancestor != nil && len(request.Processes) <= mostRoots; ancestor = ancestor.Parent {
		request.Processes = append(request.Processes, ancestor.PID)
	}
	sandbox, path := state.sandbox, exec.Executable
	tell := func(result digest.Result) {
		p.publish(&event.Event{Time: time.Now(), Sandbox: sandbox, Process: who, Payload: &event.ProcessHash{
			Executable: path, SHA256: result.SHA256, Missing: string(result.Reason), Uncertain: result.Uncertain,
		}})
	}
	result := p.s.Digest.Ask(request, func(result digest.Result) {
		p.mu.Lock()
		defer p.mu.Unlock()
		tell(result)
	})
	exec.SHA256 = result.SHA256
	if result.Reason != "" {
		tell(result)
	}
}
