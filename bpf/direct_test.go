// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// TestCastWhereKnown: no program asks a kernel without the function for it, and of all else each stays what it was; a kernel
// that has it is asked.
func TestCastWhereKnown(t *testing.T) {
	proto := &btf.FuncProto{Return: &btf.Pointer{Target: &btf.Void{}}}
	with := typesOf(t, &btf.Func{Name: rdonlyCast, Type: proto, Linkage: btf.StaticFunc})
	without := typesOf(t, &btf.Func{Name: "bpf_cast_to_kern_ctx", Type: proto, Linkage: btf.StaticFunc})
	total := 0
	for _, p := range probes() {
		read := func(kernel *btf.Spec) *ebpf.CollectionSpec {
			spec, err := p.load()
			if err != nil {
				t.Fatal(err)
			}
			castWhereKnown(spec, kernel)
			return spec
		}
		asking, told := read(with), read(without)
		for name, program := range told.Programs {
			asked := 0
			for i, ins := range program.Instructions {
				was := asking.Programs[name].Instructions[i]
				if was.Reference() != rdonlyCast {
					continue
				}
				asked++
				if ins.Reference() != "" || ins.Symbol() != was.Symbol() || ins.Width() != was.Width() ||
					btf.FuncMetadata(&ins) != nil != (btf.FuncMetadata(&was) != nil) {
					t.Errorf("%s: %v becomes %v", name, was, ins)
				}
				if load := ins.OpCode.IsDWordLoad(); load && (ins.Dst != was.Dst || ins.Constant != 0 || ins.Src != asm.R0) || !load && !ins.IsBuiltinCall() {
					t.Errorf("%s: %v is no answer to %v", name, ins, was)
				}
			}
			total += asked
		}
	}
	if total == 0 {
		t.Error("no program asks")
	}
}

// typesOf is a kernel's types that are no others.
func typesOf(t *testing.T, types ...btf.Type) *btf.Spec {
	t.Helper()
	builder, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := builder.Marshal(nil, &btf.MarshalOptions{Order: binary.NativeEndian})
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
