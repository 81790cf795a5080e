// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
)

// flowSweeps is how often in an interval the connections are looked at: none is told later than that part of it.
const flowSweeps = 4

// flows is when connections that go on are told of.
type flows struct {
	swept  time.Time
	failed bool
}

// prepareNetwork tells the object how long a flow goes on before it is told.
func prepareNetwork(spec *ebpf.CollectionSpec, cfg *Config) error {
	if err := spec.Variables["flow_interval"].Set(uint64(cfg.FlowInterval)); err != nil {
		return fmt.Errorf("setting flow_interval: %w", err)
	}
	calls := networkCalls()
	for _, name := range sendingCalls() {
		calls[name] = callSends
	}
	return newCallTable(calls).prepare(spec)
}

// sweepFlows has the kernel tell of the connections that go on, when that is due: as records of the ring.
func (t *Tracer) sweepFlows(now time.Time) {
	if t.cfg.FlowInterval == 0 || now.Sub(t.flows.swept) < t.cfg.FlowInterval/flowSweeps {
		return
	}
	t.flows.swept = now
	for i := range t.probes {
		p := &t.probes[i]
		if p.iterator == nil || p.collection.Maps["connections"] == nil {
			continue
		}
		if err := runIterator(p.iterator); err != nil && !t.flows.failed {
			t.flows.failed = true // the first one is worth a line
			t.log.Error("connections that go on are not told", "error", err)
		}
	}
}
