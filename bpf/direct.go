// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
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

// rdonlyCast is the kernel's function that programs call where it is there (lib/direct.h).
const rdonlyCast = "bpf_rdonly_cast"

// castWhereKnown has programs that ask whether the kernel has rdonlyCast be told that it has not, where it is not among the
// kernel's types: Linux before 6.2. Left to the library that would be the most part of loading there. It looks in all modules
// for it, and so at every program's types of the machine, again for each of the places that ask.
func castWhereKnown(spec *ebpf.CollectionSpec, kernel *btf.Spec) {
	var cast *btf.Func
	if !errors.Is(kernel.TypeByName(rdonlyCast, &cast), btf.ErrNotFound) {
		return
	}
	for _, program := range spec.Programs {
		for i := range program.Instructions {
			ins := &program.Instructions[i]
			if ins.Reference() != rdonlyCast {
				continue
			}
			answer := asm.LoadImm(ins.Dst, 0, asm.DWord)
			if ins.IsKfuncCall() {
				answer = asm.FnUnspec.Call() // no program gets here: the verifier deletes it
			}
			*ins = btf.WithFuncMetadata(answer.WithSource(ins.Source()), btf.FuncMetadata(ins)).WithSymbol(ins.Symbol())
		}
	}
}
