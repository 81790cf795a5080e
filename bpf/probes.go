// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/watchglass/watchglass/event"
)

// probe is one BPF object and what user space needs to know of it.
type probe struct {
	// name is the probe's name in counters and messages.
	name string
	// kinds is the names of its kinds of records, in the order of its enum in C from 1: what losses are told by.
	kinds []string
	// load reads the embedded object.
	load func() (*ebpf.CollectionSpec, error)
	// prepare sets what the configuration, and for some the kernel's types, decide before the object is loaded. May be nil.
	prepare func(*ebpf.CollectionSpec, *Config, *btf.Cache) error
	// decode turns the bytes of one record, header included, into r's payload. kind is the header's.
	decode func(r *Record, kind uint16, data []byte) error
	// trampolines is how the probe follows the trampoline plan; the zero value where it needs no plan, or has none.
	trampolines trampolines
	// required is true when nothing works without the probe.
	required bool
	// wanted is whether the configuration asks for the probe, where a plan is followed. Nil means always.
	wanted func(*Config, Plan) bool
}

// probes is every probe. The place in the list is the probe's index in records and counters, so that
// there is no other list of them. Scope comes first: what it tracks decides what the others see.
func probes() []probe {
	notables := newNotableTable()
	return []probe{
		{name: "cgroup", kinds: []string{"cgroup.made", "cgroup.gone"}, load: loadCgroup, decode: decodeCgroup, required: true},
		{
			name: "process", kinds: []string{"process.fork", string(event.KindProcessExec), string(event.KindProcessExit), "process.existing", string(event.KindProcessMove)},
			load: loadProcess, prepare: prepareProcess, decode: decodeProcess, required: true,
		},
		{name: "file", kinds: fileKinds(), load: loadFile, prepare: prepareFile, decode: decodeFile, trampolines: fileTrampolines()},
		{name: "uring", kinds: ringKinds(), load: loadUring, prepare: prepareURing, decode: decodeRing},
		{
			name: "network", kinds: []string{string(event.KindNetworkConnect), string(event.KindNetworkFlow), string(event.KindNetworkSocket)},
			load: loadNetwork, prepare: prepareNetwork, decode: decodeNetwork, trampolines: networkTrampolines(),
		},
		{name: "dns", kinds: []string{"dns.message", "network.stream", "network.datagram", "network.flow by UDP"}, load: loadDns, decode: decodeDNS},
		{
			name: "notable", kinds: []string{string(event.KindSyscallNotable), "signal"},
			load: loadNotable, prepare: notables.prepare, decode: notables.decode, trampolines: notables.trampolines(),
		},
		{name: "syscall", load: loadSyscall, decode: decodeSyscall, wanted: handsOnCalls},
	}
}

// sharedMaps is the maps that all probes must see the same content of, by name.
// Every other map is one object's own.
func sharedMaps() []string {
	return []string{
		"events", "event_sleepers", "event_counts", "sandboxes", "connections", "strays", "stray_counts", "transfers", "movings", "other_transfers", "used_descriptors",
		"plain_files", "small_uses", "scope_changes",
		"unlabelled", "syscall_scopes", "syscall_handlers", "datagram_sockets", "datagram_flows",
		"attempts", "accepted", "ring_sockets", "pending_calls", "pending_opens", "outside_sockets",
	}
}

// eventSlots is how many accounts the kernel side has room for in each sandbox (EVENT_SLOTS).
const eventSlots = len(processEventCount{}.Tallies)

// placeSlots gives each probe its slots in the accounts: one for what has no kind, then one a kind.
func placeSlots(probes []loadedProbe) error {
	next := 0
	for i := range probes {
		probes[i].slot = next
		next += 1 + len(probes[i].kinds)
	}
	if next > eventSlots {
		return fmt.Errorf("the probes have %d kinds of records, accounts have room for %d", next, eventSlots)
	}
	return nil
}

// kindName is the name of what one of the probe's slots counts.
func (p *loadedProbe) kindName(kind int) string {
	if kind == 0 {
		return p.name
	}
	return p.kinds[kind-1]
}
