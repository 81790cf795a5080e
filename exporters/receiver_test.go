// SPDX-License-Identifier: Apache-2.0

package exporters

import "github.com/watchglass/watchglass/event"

// receiverStats is of a receiver that heard a little of everything.
func receiverStats() event.ReceiverStats {
	return event.ReceiverStats{
		Endpoints:    []event.ReceiverEndpoint{{Name: "http", Listening: true}, {Name: "grpc"}},
		Requests:     []event.ReceiverRequests{{Signal: "logs", Result: "accepted", Count: 8}, {Signal: "logs", Result: "rate", Count: 2}},
		Unattributed: []event.Count{{Name: "logs", N: 1}},
		Records:      []event.ReceiverRecords{{Signal: "logs", Agent: "codex", Result: "told", Count: 30}},
		Connections:  3, InFlight: 1, TurnedAway: 4, Evicted: 5,
		Relays: []event.RelayStats{{Signal: "logs", Sent: 6, Failed: 1, Dropped: 2, QueuedBytes: 100, CapacityBytes: 1 << 20}},
	}
}
