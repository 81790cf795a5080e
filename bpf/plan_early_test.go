// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// TestPlanLeavesEarly: a program of the trampoline plan asks whose the call is before it does anything: nearly all that it
// runs for is the rest of the node's. It looks at hook_token first, before any call.
func TestPlanLeavesEarly(t *testing.T) {
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"file": loadFile, "network": loadNetwork, "notable": loadNotable,
	} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		token := spec.Variables["hook_token"]
		if token == nil {
			t.Fatalf("the object %s has no hook_token", name)
		}
		found := 0
		for _, program := range spec.Programs {
			h := hook{kind: program.Type, attach: program.AttachType}
			if !h.hangs() {
				continue
			}
			found++
			if !asksFirst(program, token) {
				t.Errorf("%s does not ask whose the call is before anything else", program.Name)
			}
		}
		if found == 0 {
			t.Errorf("the object %s has no program of the plan", name)
		}
	}
}

// asksFirst says whether a program looks at a variable before it calls anything.
func asksFirst(program *ebpf.ProgramSpec, token *ebpf.VariableSpec) bool {
	for _, instruction := range program.Instructions {
		if instruction.OpCode.JumpOp() == asm.Call {
			return false
		}
		// The place in the section is the upper half of what is loaded.
		if instruction.IsLoadFromMap() && instruction.Reference() == token.SectionName {
			return uint32(uint64(instruction.Constant)>>32) == token.Offset
		}
	}
	return false
}
