// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"time"

	"github.com/cilium/ebpf"

	"github.com/watchglass/watchglass/event"
)

const (
	// datagramSweep is how often the kernel's counters of datagrams are looked at.
	datagramSweep = time.Second
	// datagramIdle is after how many looks that found no change the exchange with a peer counts as over.
	datagramIdle = 60
)

// datagrams is what UDP sockets exchange with their peers, as the kernel counts it. It is used by the goroutine of Run
// alone.
type datagrams struct {
	kernel   *ebpf.Map
	dec      *decoder
	interval time.Duration
	swept    time.Time
	flows    map[networkDestination]*exchanged
}

// exchanged is what was seen of one flow at the last look.
type exchanged struct {
	sent, received uint32 // packets
	// toldSent and toldReceived are bytes, toldAt when.
	toldSent, toldReceived uint64
	toldAt                 time.Time
	still                  int
	closed                 bool
	// seen is the last look that found it there.
	seen time.Time
}

func newDatagrams(kernel *ebpf.Map, dec *decoder, interval time.Duration) *datagrams {
	return &datagrams{kernel: kernel, dec: dec, interval: interval, swept: time.Now(), flows: map[networkDestination]*exchanged{}}
}

// sweep tells of the flows that are over, and of those that go on for long.
func (d *datagrams) sweep(now time.Time, handle func(*Record)) {
	if now.Sub(d.swept) < datagramSweep {
		return
	}
	d.swept = now
	d.look(now, func(key networkDestination, f *exchanged, counted []byte) {
		switch {
		case f.closed, f.still >= datagramIdle:
			d.end(key, f, handle)
		case d.interval != 0 && now.Sub(f.toldAt) >= d.interval:
			d.tell(f, counted, now, handle)
		}
	})
}

// flush tells everything that was counted.
func (d *datagrams) flush(now time.Time, handle func(*Record)) {
	d.look(now, func(key networkDestination, f *exchanged, _ []byte) { d.end(key, f, handle) })
}

// look looks at every flow, and forgets what is gone.
func (d *datagrams) look(now time.Time, visit func(key networkDestination, f *exchanged, counted []byte)) {
	var key networkDestination
	var counted []byte
	type entry struct {
		key     networkDestination
		counted []byte
	}
	var all []entry
	for entries := d.kernel.Iterate(); entries.Next(&key, &counted); counted = nil {
		all = append(all, entry{key, counted})
	}
	for _, e := range all {
		flow, _, err := view[networkFlow](e.counted)
		if err != nil || flow.Header.Time == 0 {
			continue // it is just being made
		}
		f := d.flows[e.key]
		if f == nil {
			f = &exchanged{toldAt: now}
			d.flows[e.key] = f
		}
		f.seen, f.closed = now, flow.End != 0
		f.still++
		if f.sent != flow.SentPackets || f.received != flow.ReceivedPackets {
			f.sent, f.received, f.still = flow.SentPackets, flow.ReceivedPackets, 0
		}
		visit(e.key, f, e.counted)
	}
	for key, f := range d.flows {
		if f.seen != now {
			delete(d.flows, key)
		}
	}
}

// end tells a flow for the last time. The kernel begins a new one with the next datagram.
func (d *datagrams) end(key networkDestination, f *exchanged, handle func(*Record)) {
	var counted []byte
	err := takeEntry(d.kernel, &key, &counted)
	delete(d.flows, key)
	if err == nil {
		d.tell(f, counted, time.Time{}, handle)
	}
}

// tell tells what a flow counts: of one that goes on, at a time, what it counts so far.
func (d *datagrams) tell(f *exchanged, counted []byte, at time.Time, handle func(*Record)) {
	r, err := d.dec.decode(counted)
	if err != nil {
		return
	}
	flow, ok := r.Payload.(*event.NetworkFlow)
	if !ok {
		return
	}
	flow.ToldSent, flow.ToldReceived = min(f.toldSent, flow.Sent), min(f.toldReceived, flow.Received)
	// The header's time is that of the first datagram.
	r.Counted, r.Time = true, r.Time.Add(flow.Duration)
	if !at.IsZero() {
		f.toldAt = at
		if flow.Sent == f.toldSent && flow.Received == f.toldReceived {
			return // nothing since
		}
		r.Time, flow.End, flow.Continuing = at, "", true
		f.toldSent, f.toldReceived = flow.Sent, flow.Received
	} else if flow.End == "" {
		flow.End = "idle"
	}
	handle(r)
}
