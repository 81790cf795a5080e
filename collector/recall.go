// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/watchglass/watchglass/event"
)

// Recall takes the processes of a sandbox that are in the events of a collector before, each after its parent: so that
// those that are alive keep their session, their tool call and their ancestors, of which the kernel cannot tell any
// more. To be called before Run, of sandboxes that are known. The processes are the pipeline's from then on.
func (p *Pipeline) Recall(s *event.Sandbox, before []*event.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, process := range before {
		p.tree.Recall(process, s.CgroupID)
	}
}
