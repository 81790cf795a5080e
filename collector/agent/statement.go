// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"github.com/watchglass/watchglass/event"
)

// Origin is who sent something, as the kernel knows it: the process at the other end of the connection.
// The zero Origin is a sender that could not be found.
type Origin struct {
	// Sandbox is the cgroup id of the sandbox that the process is in; 0 when it is in none that is watched.
	Sandbox uint64
	// PID is in the initial PID namespace; Start is the start time in nanoseconds since boot, as in bpf.Task.
	PID   uint32
	Start uint64
}

// Known says whether the sender's process was found.
func (o Origin) Known() bool { return o.PID != 0 }

// Statement is one claim, normalised, with who made it. The receiver and the hooks make them, the sessions
// take them.
type Statement struct {
	Origin Origin
	// Time is when it happened, by the clock that the claim's TimeSource names.
	Time time.Time
	// Claim is what was said: one of the payloads of package event that embed a Claim.
	Claim event.Said
}
