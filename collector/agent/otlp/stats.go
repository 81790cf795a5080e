// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// stats counts since the start.
type stats struct {
	turnedAway atomic.Uint64

	mu       sync.Mutex
	requests map[event.ReceiverRequests]uint64
	records  map[event.ReceiverRecords]uint64
	nobody   map[Signal]uint64
}

func (s *stats) request(signal Signal, result string, from agent.Origin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests == nil {
		s.requests, s.nobody = map[event.ReceiverRequests]uint64{}, map[Signal]uint64{}
	}
	s.requests[event.ReceiverRequests{Signal: string(signal), Result: result}]++
	if from.Sandbox == 0 {
		s.nobody[signal]++
	}
}

func (s *stats) heard(signal Signal, account agent.Account, _ agent.Origin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		s.records = map[event.ReceiverRecords]uint64{}
	}
	for name, counts := range account {
		for verdict, n := range counts {
			if n > 0 {
				s.records[event.ReceiverRecords{Signal: string(signal), Agent: name, Result: agent.Verdict(verdict).String()}] += n
			}
		}
	}
}

// Stats is the account since the start. Every request's result has a counter from the start on.
func (r *Receiver) Stats() event.ReceiverStats {
	out := event.ReceiverStats{Evicted: r.translator.Evicted(), TurnedAway: r.stats.turnedAway.Load()}
	out.Connections, out.InFlight = r.admission.numbers()
	for _, e := range r.endpoints {
		out.Endpoints = append(out.Endpoints, event.ReceiverEndpoint{Name: e.name, Listening: e.listener.Load() != nil})
	}
	r.stats.mu.Lock()
	defer r.stats.mu.Unlock()
	for _, signal := range []Signal{Logs, Traces, Metrics} {
		for _, result := range reasons() {
			key := event.ReceiverRequests{Signal: string(signal), Result: result}
			key.Count = r.stats.requests[key]
			out.Requests = append(out.Requests, key)
		}
		out.Unattributed = append(out.Unattributed, event.Count{Name: string(signal), N: int64(r.stats.nobody[signal])})
	}
	for key, n := range r.stats.records {
		key.Count = n
		out.Records = append(out.Records, key)
	}
	slices.SortFunc(out.Records, func(a, b event.ReceiverRecords) int {
		return cmp.Or(cmp.Compare(a.Signal, b.Signal), cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Result, b.Result))
	})
	return out
}
