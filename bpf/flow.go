// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// flowSweeps is how often in an interval the connections are looked at: none is told later than that part of it.
const flowSweeps = 4

// flows is when connections that go on are told of.
type flows struct {
	swept  time.Time
	failed bool
}

// prepareNetwork tells the object how long a flow goes on before it is told.
func prepareNetwork(spec *ebpf.CollectionSpec, cfg *Config, _ *btf.Cache) error {
	if err := setConstants(spec, map[string]any{"flow_interval": uint64(cfg.FlowInterval)}); err != nil {
		return err
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
	if err := t.tellFlows(); err != nil && !t.flows.failed {
		t.flows.failed = true // the first one is worth a line
		t.log.Error("connections that go on are not told", "error", err)
	}
}

// leaveFlows has the kernel tell of all connections that go on, before nobody reads the ring any more: one whose process has
// ended may be closing still, when the last of a session is a request.
func (t *Tracer) leaveFlows() error {
	set := func(left uint32) error {
		var errs []error
		for i := range t.probes {
			if c := t.probes[i].collection; c != nil && c.Variables["flows_left"] != nil {
				errs = append(errs, c.Variables["flows_left"].Set(left))
			}
		}
		return errors.Join(errs...)
	}
	if err := errors.Join(set(1), t.tellFlows(), set(0)); err != nil {
		return fmt.Errorf("telling of the connections that go on: %w", err)
	}
	return nil
}

// tellFlows has the kernel tell of the connections that have gone on for long enough.
func (t *Tracer) tellFlows() error {
	var errs []error
	for i := range t.probes {
		p := &t.probes[i]
		if p.iterator != nil && p.collection.Maps["connections"] != nil {
			errs = append(errs, runIterator(p.iterator))
		}
	}
	return errors.Join(errs...)
}
