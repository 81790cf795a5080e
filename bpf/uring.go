// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/watchglass/watchglass/event"
)

// prepareURing leaves of the programs those that this kernel has hooks for, and tells which mount namespace
// is the host's. The two forms of a hook were never there at once.
func prepareURing(spec *ebpf.CollectionSpec, cfg *Config, types *btf.Cache) error {
	kernel, err := types.Kernel()
	if err != nil {
		return fmt.Errorf("reading the kernel's types: %w", err)
	}
	for name, hook := range map[string]string{
		"uring_on_submit_req": "io_uring_submit_req", "uring_on_submit_sqe": "io_uring_submit_sqe",
	} {
		parameters, err := hookParameters(kernel, hook)
		if err != nil {
			return err
		}
		if parameters == 0 {
			delete(spec.Programs, name)
		}
	}
	parameters, err := hookParameters(kernel, "io_uring_complete")
	if err != nil {
		return err
	}
	completes := map[string]bool{"uring_on_complete": false, "uring_on_complete_values": false, "uring_on_complete_deep": false}
	switch {
	case parameters == 3: // the ring, the request and the entry
		completes["uring_on_complete"] = true
	case spec.Programs["uring_on_submit_req"] != nil: // the entry's values, since 6.3
		completes["uring_on_complete_values"] = true
	default:
		completes["uring_on_complete_deep"] = true
	}
	for name, wanted := range completes {
		if !wanted {
			delete(spec.Programs, name)
		}
	}
	return prepareFile(spec, cfg, types)
}

// divideOpens tells the uring probe, which is attached after the file probe, whether that one tells of opens that succeed:
// it does where it hangs on the function that opens files, which is where io_uring opens them too.
func (t *Tracer) divideOpens(p *loadedProbe) error {
	if p.name != "uring" {
		return nil
	}
	told := uint32(0)
	for i := range t.probes {
		if other := &t.probes[i]; other.name == "file" && other.attached && other.plan == PlanTrampoline {
			told = 1
		}
	}
	if err := p.collection.Variables["opens_told"].Set(told); err != nil {
		return fmt.Errorf("setting opens_told: %w", err)
	}
	return nil
}

// hookParameters is how many values a tracepoint passes, 0 where the kernel has none of the name.
func hookParameters(kernel *btf.Spec, hook string) (int, error) {
	var typedef *btf.Typedef
	err := kernel.TypeByName("btf_trace_"+hook, &typedef)
	if errors.Is(err, btf.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking for the hook %s: %w", hook, err)
	}
	pointer, ok := typedef.Type.(*btf.Pointer)
	if !ok {
		return 0, fmt.Errorf("the hook %s is of no known form", hook)
	}
	proto, ok := pointer.Target.(*btf.FuncProto)
	if !ok {
		return 0, fmt.Errorf("the hook %s is of no known form", hook)
	}
	// The first is the tracepoint's own.
	return len(proto.Params) - 1, nil
}

// decodeRing decodes a record of the uring probe: those about files, and after them those about sockets.
func decodeRing(r *Record, kind uint16, data []byte) error {
	switch uringRingKind(kind) {
	case uringRingKindRING_SOCKET:
		return decodeSocket(r, data)
	case uringRingKindRING_CONNECT:
		return decodeConnect(r, data)
	default:
		return decodeFile(r, kind, data)
	}
}

// ringKinds is the names of the kinds of records about what came through a ring.
func ringKinds() []string {
	kinds := append(fileKinds(), string(event.KindNetworkSocket), string(event.KindNetworkConnect))
	for i := range kinds {
		kinds[i] += " by io_uring"
	}
	return kinds
}
