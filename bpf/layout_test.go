// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"crypto/sha256"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// TestProgramsAreToldApart checks that whatever of an instruction is another makes another program of it.
func TestProgramsAreToldApart(t *testing.T) {
	sum := func(instructions ...asm.Instruction) string {
		f := form{sha256.New()}
		f.instruct(instructions)
		return f.sum()
	}
	one := asm.StoreMem(asm.R1, 8, asm.R2, asm.Word)
	as := func(change func(*asm.Instruction)) asm.Instruction {
		other := one
		change(&other)
		return other
	}
	known := map[string]string{}
	for name, got := range map[string]string{
		"as it is":                  sum(one),
		"twice":                     sum(one, one),
		"none":                      sum(),
		"another operation":         sum(as(func(i *asm.Instruction) { i.OpCode = asm.StoreMemOp(asm.Byte) })),
		"an operation of this code": sum(as(func(i *asm.Instruction) { i.OpCode |= 1 << 16 })),
		"another destination":       sum(as(func(i *asm.Instruction) { i.Dst = asm.R3 })),
		"another source":            sum(as(func(i *asm.Instruction) { i.Src = asm.R3 })),
		"another offset":            sum(as(func(i *asm.Instruction) { i.Offset = -8 })),
		"a constant":                sum(as(func(i *asm.Instruction) { i.Constant = 1 })),
		"a large constant":          sum(as(func(i *asm.Instruction) { i.Constant = 1 << 32 })),
		"a map":                     sum(one.WithReference("events")),
		"another map":               sum(one.WithReference("sandboxes")),
		"a name":                    sum(one.WithSymbol("events")),
		"a field of the kernel's":   sum(as(func(i *asm.Instruction) { *i = btf.WithCORERelocationMetadata(*i, &btf.CORERelocation{}) })),
		"a name and a map":          sum(one.WithSymbol("even").WithReference("ts")),
	} {
		if other, found := known[got]; found {
			t.Errorf("%s is the same as %s", name, other)
		}
		known[got] = name
	}
	if sum(one) != sum(as(func(*asm.Instruction) {})) {
		t.Error("the same instruction twice makes two programs")
	}
}
