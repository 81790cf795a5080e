// SPDX-License-Identifier: Apache-2.0

package bpf

import "github.com/cilium/ebpf"

// probe is one BPF object and what user space needs to know of it.
type probe struct {
	// name is the probe's name in counters and messages.
	name string
	// load reads the embedded object.
	load func() (*ebpf.CollectionSpec, error)
	// prepare sets what the configuration decides before the object is loaded. May be nil.
	prepare func(*ebpf.CollectionSpec, *Config) error
	// decode turns the bytes of one record, header included, into r's payload. kind is the header's.
	decode func(r *Record, kind uint16, data []byte) error
	// required is true when nothing works without the probe.
	required bool
	// wanted is whether the configuration asks for the probe. Nil means always.
	wanted func(*Config) bool
}

// probes is every probe. The place in the list is the probe's index in records and counters, so that
// there is no other list of them. Scope comes first: what it tracks decides what the others see.
func probes() []probe {
	return []probe{
		{name: "cgroup", load: loadCgroup, decode: decodeCgroup, required: true},
		{name: "process", load: loadProcess, prepare: prepareProcess, decode: decodeProcess, required: true},
		{name: "file", load: loadFile, decode: decodeFile},
		{name: "network", load: loadNetwork, decode: decodeNetwork},
		{name: "dns", load: loadDns, decode: decodeDNS},
		{name: "syscall", load: loadSyscall, decode: decodeSyscall, wanted: func(c *Config) bool { return c.SyscallCounts }},
	}
}

// sharedMaps is the maps that all probes must see the same content of, by name.
// Every other map is one object's own.
func sharedMaps() []string {
	return []string{"events", "event_counts", "sandboxes"}
}
