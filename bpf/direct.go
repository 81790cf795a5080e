// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// loadDirectly has programs read a map's only value where it lies, without a look-up; they take the map's address for the
// value's (lib/sandbox.h). The map is an array of one.
func loadDirectly(spec *ebpf.CollectionSpec, name string) {
	for _, program := range spec.Programs {
		for i := range program.Instructions {
			if ins := &program.Instructions[i]; ins.IsLoadFromMap() && ins.Reference() == name {
				ins.Src = asm.PseudoMapValue
			}
		}
	}
}
