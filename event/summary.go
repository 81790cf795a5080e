// SPDX-License-Identifier: Apache-2.0

package event

import "time"

// Summary is what happened in one sandbox from its start to its stop: plain data, bounded in size.
type Summary struct {
	// Sandbox is the sandbox's name; Started and Duration when and how long it was watched.
	Sandbox  string
	Started  time.Time
	Duration time.Duration
	// Processes is how many were seen, Execs how many programs they ran, Failed how many ended with a
	// code other than 0 or by a signal.
	Processes, Execs, Failed int
	// Commands is how often each program ran, most frequent first; CommandsOmitted how many programs
	// more there were.
	Commands        []Count
	CommandsOmitted int
	// Sessions is the agents' sessions, the first that began first; SessionsOmitted how many more there were.
	Sessions        []SessionSummary
	SessionsOmitted int
	// Files is by class, in the order of the classes' importance.
	Files []FileSummary
	// Destinations is by peer, most traffic first; DestinationsOmitted how many more there were.
	Destinations        []Destination
	DestinationsOmitted int
	// Findings is in the order of severity, the latest state of each.
	Findings []*Finding
	// FindingsOmitted is how many more there were.
	FindingsOmitted int
	// Outlived is the processes still alive at the end.
	Outlived []*Process
	// Lost is every loss; empty means that nothing was lost.
	Lost []LossCounter
}

// SessionSummary is one agent's session, as far as the agent or the kernel tells.
type SessionSummary struct {
	ID, Agent string
	// Calls is the tool calls that the agent told of or the kernel saw, Joined those of them whose processes are known.
	Calls, Joined int
	// Granted and Denied are the decisions on calls.
	Granted, Denied int
	// Mismatches is how often a claim and a fact disagreed.
	Mismatches int
}

// FileSummary is the opens of one class of files.
type FileSummary struct {
	Class FileClass
	// Opens is all opens that succeeded, Written those of them for writing, Failed those that did not.
	Opens, Written, Failed int
	// Paths is the first distinct paths of a watched class; PathsOmitted how many more opens there were
	// of paths not listed. Both are empty for other classes.
	Paths        []string
	PathsOmitted int
}

// Destination is one peer.
type Destination struct {
	Transport Transport
	// Peer is the address and port as text, Name the peer's name or "".
	Peer, Name string
	Scope      Scope
	// Connects is how often it was tried, Failed how often that failed; Error the last error's name.
	Connects, Failed int
	Error            string
	// Sent and Received are payload bytes of finished connections.
	Sent, Received uint64
}
