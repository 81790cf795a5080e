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
	// PID is in the initial PID namespace; Start is the start time in nanoseconds since boot, as in bpf.Task. What
	// is read from /proc is cut to ClockTick, so compare with SameProcess.
	PID   uint32
	Start uint64
}

// ClockTick is the unit of start times in /proc, in nanoseconds: USER_HZ is 100 on every architecture.
const ClockTick = 1e9 / 100

// Known says whether the sender's process was found.
func (o Origin) Known() bool { return o.PID != 0 }

// SameProcess says whether the origin is the process that the kernel tells with this pid and start time.
func (o Origin) SameProcess(pid uint32, start uint64) bool {
	return o.PID == pid && o.Start/ClockTick == start/ClockTick
}

// Statement is one claim, normalised, with who made it. The receiver and the hooks make them, the sessions
// take them.
type Statement struct {
	// Origin is the agent's process. Via is the process that handed the statement over, where that is another one
	// that the agent started for it: a hook. It and what is between it and the agent are no tool call; and where
	// the kernel saw Via inside of one, then the tool made the statement and not the agent.
	Origin, Via Origin
	// Time is when it happened, by the clock that the claim's TimeSource names.
	Time time.Time
	// Claim is what was said: one of the payloads of package event that embed a Claim.
	Claim event.Said
}
