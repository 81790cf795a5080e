// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"net/netip"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/slab"
)

// maker is what events are made in: several by one allocation, since an allocation for each is what most of the pipeline's
// time would go into. An event is anybody's to keep; one that is kept keeps a few others.
type maker struct {
	events    slab.Of[event.Event]
	queries   slab.Of[event.DNSQuery]
	addresses slab.Lists[netip.Addr]
}

// event is the event that a record makes. What a large record tells is not kept by others.
func (m *maker) event(r *bpf.Record, e event.Event) *event.Event {
	var kept *event.Event
	if r.Large() {
		kept = &event.Event{}
	} else {
		kept = m.events.New()
	}
	*kept = e
	return kept
}
