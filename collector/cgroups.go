// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// maxCgroups bounds the cgroups below one sandbox whose paths are kept. Of those beyond it the processes
// are told without a path.
const maxCgroups = 4096

// cgroupPaths is the paths of the cgroups that were made below a sandbox, by id.
type cgroupPaths struct{ paths map[uint64]string }

func (c *cgroupPaths) add(id uint64, path string) {
	if c.paths == nil {
		c.paths = map[uint64]string{}
	}
	if len(c.paths) < maxCgroups {
		c.paths[id] = path
	}
}

func (c *cgroupPaths) remove(id uint64) { delete(c.paths, id) }

// path is "" for the sandbox's own cgroup and where it is not known.
func (c *cgroupPaths) path(id uint64) string { return c.paths[id] }

// moved notes where a process went, and completes what the kernel told of it.
func (p *Pipeline) moved(state *sandboxState, r *bpf.Record, m *event.ProcessMove) *event.Process {
	own := state.sandbox.CgroupID
	switch m.FromID {
	case own:
		m.From = state.sandbox.Cgroup
	default:
		m.From = state.cgroups.path(m.FromID)
	}
	if m.ToID != own && m.To != "" {
		// Of cgroups outside of the sandbox no other record tells.
		state.cgroups.add(m.ToID, m.To)
	}
	m.Mover.UID = p.tree.Identity(m.Mover.PID, m.Mover.Start)
	return p.tree.Move(r)
}
