// SPDX-License-Identifier: Apache-2.0

package event

// ReceiverStats is the account of what agents sent by OTLP, and of what was relayed.
type ReceiverStats struct {
	// Endpoints is where agents are to be heard.
	Endpoints []ReceiverEndpoint
	// Requests is how many there were, by signal and result; Unattributed how many of them came from a process that
	// is in no watched sandbox or could not be found.
	Requests     []ReceiverRequests
	Unattributed []Count
	// Records is what became of the log records, spans and metrics in them.
	Records []ReceiverRecords
	// Connections and InFlight are how many connections and requests there are now; TurnedAway is how many connections
	// were one too many.
	Connections, InFlight int
	TurnedAway            uint64
	// Evicted is how much of what is remembered of agents' conversations had to be forgotten for lack of room.
	Evicted uint64
	// Relays is what was sent on to the operator's own backend.
	Relays []RelayStats
}

// ReceiverEndpoint is one address.
type ReceiverEndpoint struct {
	// Name is http, grpc or socket.
	Name      string
	Listening bool
}

// ReceiverRequests is a counter of requests.
type ReceiverRequests struct {
	// Signal is logs, traces or metrics; Result is accepted, or why not.
	Signal, Result string
	Count          uint64
}

// ReceiverRecords is a counter of records.
type ReceiverRecords struct {
	// Signal is logs, traces or metrics; Agent the adapter's name; Result what became of them.
	Signal, Agent, Result string
	Count                 uint64
}

// RelayStats is the account of one signal that is relayed.
type RelayStats struct {
	Signal string
	// Sent, Failed and Dropped are requests: delivered, given up, and refused for lack of room.
	Sent, Failed, Dropped uint64
	// QueuedBytes is what waits now, CapacityBytes what there is room for.
	QueuedBytes, CapacityBytes int
}
