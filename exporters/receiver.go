// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/watchglass/watchglass/event"
)

// receiverDescs is the metrics of what agents send by OTLP, and of what is relayed. Agents are the adapters'
// names, never what a sender calls itself.
type receiverDescs struct {
	listening, connections, inFlight, turnedAway *prometheus.Desc
	requests, unattributed, records, evicted     *prometheus.Desc
	relayed, queued, capacity                    *prometheus.Desc
}

func newReceiverDescs(desc func(kind, name, help string, labels ...string) *prometheus.Desc) receiverDescs {
	const counter, gauge = "counter", "gauge"
	return receiverDescs{
		listening: desc(gauge, "watchglass_receiver_listening",
			"1 while agents are heard at the endpoint (http, grpc or socket), 0 when its address cannot be had.", "endpoint"),
		connections: desc(gauge, "watchglass_receiver_connections", "Connections of agents that are open now."),
		inFlight:    desc(gauge, "watchglass_receiver_requests_in_flight", "Requests of agents that are served now."),
		turnedAway: desc(counter, "watchglass_receiver_connections_refused_total",
			"Connections that were closed because their sandbox, or all together, had as many as they may."),
		requests: desc(counter, "watchglass_receiver_requests_total",
			"Requests of agents, by signal and by result: accepted, or why not (malformed, too_large, rate, busy, protocol, cancelled, internal).",
			"signal", "result"),
		unattributed: desc(counter, "watchglass_receiver_unattributed_requests_total",
			"Requests whose sender is in no sandbox that is watched, or could not be found.", "signal"),
		records: desc(counter, "watchglass_receiver_records_total",
			"Log records, spans and metrics of agents, by what became of them: told, silent (nothing to tell), duplicate, "+
				"unknown (of a kind that no adapter knows) or refused (too many attributes).", "signal", "agent", "result"),
		evicted: desc(counter, "watchglass_receiver_entries_evicted_total",
			"What had to be forgotten of agents' conversations for lack of room: a later record may then be understood less well."),
		relayed: desc(counter, "watchglass_relay_requests_total",
			"Requests of agents that were to be sent on, by result: sent, failed or dropped (the queue was full).", "signal", "result"),
		queued:   desc(gauge, "watchglass_relay_queue_bytes", "Bytes that wait to be sent on.", "signal"),
		capacity: desc(gauge, "watchglass_relay_queue_capacity_bytes", "Bytes that the relay's queue has room for.", "signal"),
	}
}

func (d *receiverDescs) collect(s *event.ReceiverStats, counter func(*prometheus.Desc, uint64, ...string),
	gauge func(*prometheus.Desc, float64, ...string),
) {
	for _, e := range s.Endpoints {
		gauge(d.listening, oneIf(e.Listening), e.Name)
	}
	if len(s.Endpoints) > 0 {
		gauge(d.connections, float64(s.Connections))
		gauge(d.inFlight, float64(s.InFlight))
		counter(d.turnedAway, s.TurnedAway)
		counter(d.evicted, s.Evicted)
	}
	for _, r := range s.Requests {
		counter(d.requests, r.Count, r.Signal, r.Result)
	}
	for _, u := range s.Unattributed {
		counter(d.unattributed, uint64(max(0, u.N)), u.Name)
	}
	for _, r := range s.Records {
		counter(d.records, r.Count, r.Signal, r.Agent, r.Result)
	}
	for _, r := range s.Relays {
		counter(d.relayed, r.Sent, r.Signal, "sent")
		counter(d.relayed, r.Failed, r.Signal, "failed")
		counter(d.relayed, r.Dropped, r.Signal, "dropped")
		gauge(d.queued, float64(r.QueuedBytes), r.Signal)
		gauge(d.capacity, float64(r.CapacityBytes), r.Signal)
	}
}
