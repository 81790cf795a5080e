// SPDX-License-Identifier: Apache-2.0

package event

import "time"

// Stats is what the collector says of itself at one moment. Counters only grow while it runs.
// exporters/metrics.go turns it into instruments; the end-of-session summary reads it too.
type Stats struct {
	// Records is how many of the kernel's records were read. What the probes saw and did not drop is read,
	// could not be decoded, or waits in the ring.
	Records uint64
	// Claims is how many statements of agents came in; ClaimsUnattributed those of them whose sender is in
	// no sandbox that is known.
	Claims, ClaimsUnattributed uint64
	// Receiver is what agents sent by OTLP.
	Receiver ReceiverStats
	// Hooks is what became of what agents told their hooks, by result; nil where nobody listens.
	Hooks []Count
	// Events is how many events were published, by kind.
	Events []Count
	// Lost is every loss so far.
	Lost []LossCounter
	// Probes is the state of each BPF probe.
	Probes []ProbeStats
	// Exporters is the state of each exporter.
	Exporters []ExporterStats
	// Detectors is the state of each detector.
	Detectors []DetectorStats
	// FindingsSuppressed is how many findings profiles did not let count.
	FindingsSuppressed uint64
	// Notifiers is the state of each output that tells people of findings, and of every other exporter's canary.
	Notifiers []NotifierStats
	// CanaryInterval is how often a canary is made; 0 for never.
	CanaryInterval time.Duration
	// Sandboxes is how many are watched now; SandboxesRefused how many were not for lack of room.
	Sandboxes        int
	SandboxesRefused uint64
	// Processes is how many the process tree holds; ProcessesEvicted how many it had to forget early.
	Processes        int
	ProcessesEvicted uint64
	// Journal is the state of the journal.
	Journal JournalStats
	// Destinations is the state of each destination that takes events in their durable form.
	Destinations []DestinationStats
	// Sessions is the state of what is remembered of agents' sessions.
	Sessions SessionStats
	// RingBytes is the size of the ring buffer, RingUsed how much of it waits to be read.
	RingBytes, RingUsed uint64
	// Pinning is how the collector came by its programs and maps; "" before they are there.
	Pinning Pinning
}

// Pinning is how a collector came by its programs and maps.
type Pinning string

// The ways. An old collector is taken over from without a moment in which nobody watches, and nothing is seen by both.
const (
	// PinningOff: nothing outlives the collector.
	PinningOff Pinning = "off"
	// PinningStarted: everything is new.
	PinningStarted Pinning = "started"
	// PinningAdopted: maps and ring are those of the collector before, with the same programs.
	PinningAdopted Pinning = "adopted"
	// PinningUpdated: maps and ring are those of the collector before, and other programs took the old ones' places.
	PinningUpdated Pinning = "updated"
	// PinningReplaced: the maps are of another layout; the old ring is read to its end.
	PinningReplaced Pinning = "replaced"
)

// Pinnings is all of them.
func Pinnings() []Pinning {
	return []Pinning{PinningOff, PinningStarted, PinningAdopted, PinningUpdated, PinningReplaced}
}

// LossCounter is one loss counter.
type LossCounter struct {
	Stage  LossWhere
	Lost   string
	Reason string
	// Sandbox is the sandbox's ID, "" when unknown.
	Sandbox string
	Count   uint64
}

// ProbeStats is the state of one BPF probe.
type ProbeStats struct {
	// Name is the probe's: process, file, network, syscall, cgroup.
	Name string
	// Attached is true when all of its programs are; Err is why one is not, "" otherwise.
	Attached bool
	Err      string
	// Plan is the hook plan by which it sees system calls: tracepoint, trampoline, or "" when it sees none.
	// Fallback is why that is not the collector's plan, or why its programs are where all packets run them; "" when neither.
	Plan, Fallback string
	// AtRoot is whether its programs hang at the root cgroup, so that packets of every process of the node run them.
	AtRoot bool
	// Kinds is the kinds of records it tells, which are lost where it does not work.
	Kinds []string
	// Missed is how often the kernel had no room to run one of its programs: then nobody knows whether there was an
	// event, nor whose.
	Missed uint64
	// Seen is the in-scope events its programs met; Aggregated those that another one tells of with a count;
	// Dropped those that found no room or no budget.
	Seen, Aggregated, Dropped uint64
}

// ExporterStats is the state of one exporter.
type ExporterStats struct {
	Name string
	// Exported is how many events it took, Failed how many it could not deliver,
	// Dropped how many found its queue full, Queued how many wait now.
	Exported, Failed, Dropped uint64
	// Evicted is what the exporter had to forget for lack of room before it was complete: a part of a trace.
	Evicted          uint64
	Queued, Capacity int
}

// DetectorStats is the memory of one detector.
type DetectorStats struct {
	// Name is its rule's ID.
	Name string
	// Entries is how much it remembers now; Evicted how much it had to forget for lack of room.
	Entries int
	Evicted uint64
	// Most is the most entries that it can come to remember, with all sandboxes that it has room for.
	Most int
	// Failed is true when it panicked: it is then off until the collector starts again.
	Failed bool
}

// SandboxStats is the account of one sandbox that is watched now.
type SandboxStats struct {
	Sandbox *Sandbox
	// Events is how many events of it were published, Findings how many new findings are among them, Lost
	// how many were lost, Processes how many processes were seen.
	Events, Findings, Lost, Processes uint64
	// Usage is what it had used of the machine when that was last measured; nil when it was not yet.
	Usage *ResourceUsage
}
