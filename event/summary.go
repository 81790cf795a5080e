// SPDX-License-Identifier: Apache-2.0

package event

import (
	"net/netip"
	"time"
)

// Summary is what happened in one sandbox while it was watched. Strings hold the sandbox's bytes.
type Summary struct {
	// Sandbox is where.
	Sandbox *Sandbox
	// Started and Stopped bound the time of watching.
	Started, Stopped time.Time
	// Processes is how many processes were seen; Execs how many programs they started; Failed how many ended
	// with another code than 0, Signalled how many by a signal; Outlived how many were alive at the end.
	Processes, Execs, Failed, Signalled, Outlived int
	// Outlivers is the processes that were alive at the end, as far as the bound of the list allows.
	Outlivers []*Process
	// Files is the opens by class.
	Files []FileSummary
	// Destinations is where the sandbox connected to, in the order of first contact; DestinationsMore how
	// many did not fit into the list.
	Destinations     []DestinationSummary
	DestinationsMore int
	// Findings is the findings, in order; FindingsMore how many did not fit into the list.
	Findings     []*Finding
	FindingsMore int
	// Lost is every loss; empty means that nothing was lost.
	Lost []LossCounter
	// Events is how many events were published, by kind.
	Events []Count
}

// FileSummary is the opens of one class of file.
type FileSummary struct {
	Class FileClass
	// Reads and Writes are the successful opens, by whether the file could be changed; Denied and Missing
	// the failures for lack of permission and for lack of a file, Errors all others.
	Reads, Writes, Denied, Missing, Errors int
}

// DestinationSummary is one peer.
type DestinationSummary struct {
	Transport Transport
	Peer      netip.AddrPort
	// Name is the peer's name, "" when not known.
	Name string
	// Connects is the attempts, Failed those that failed, and Error the error of the latest failure.
	Connects, Failed int
	Error            Errno
	// Sent and Received are payload bytes of finished connections.
	Sent, Received uint64
}
