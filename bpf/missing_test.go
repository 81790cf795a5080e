// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// kernelTypes is the types of a kernel that has functions for programs up to one, and types of maps up to one.
func kernelTypes(t *testing.T, functions asm.BuiltinFunc, mapTypes uint64) *btf.Spec {
	t.Helper()
	enum := func(name, bound string, last uint64) *btf.Enum {
		e := &btf.Enum{Name: name, Size: 4}
		for i := range last + 1 {
			e.Values = append(e.Values, btf.EnumValue{Name: name + "_" + string(rune('a'+i%26)) + strings.Repeat("x", int(i/26)), Value: i})
		}
		e.Values = append(e.Values, btf.EnumValue{Name: bound, Value: last + 1})
		return e
	}
	return typesOf(t, enum("bpf_func_id", "__BPF_FUNC_MAX_ID", uint64(functions)), enum("bpf_map_type", "__MAX_BPF_MAP_TYPE", mapTypes))
}

// TestMissingFeatures: of an older kernel each probe says what it lacks, by the kernel's names and with the first Linux
// that has it; of a newer one nothing.
func TestMissingFeatures(t *testing.T) {
	// Linux 5.10 ends before bpf_task_storage_get, and at maps of type inode_storage.
	old := kernelTypes(t, asm.FnTaskStorageGet-1, 28)
	recent := kernelTypes(t, asm.FnUserRingbufDrain, 32)
	for _, p := range probes() {
		spec, err := p.load()
		if err != nil {
			t.Fatal(err)
		}
		if missing := missingFeatures(recent, spec); len(missing) != 0 {
			t.Errorf("probe %s: %q are missing of a kernel that has all", p.name, missing)
		}
		missing := missingFeatures(old, spec)
		t.Logf("probe %s: %q", p.name, missing)
		if p.required && len(missing) == 0 {
			t.Errorf("probe %s lacks nothing of Linux 5.10", p.name)
		}
		for _, m := range missing {
			if !strings.HasPrefix(m, "bpf_") && !strings.HasPrefix(m, "maps of type ") || !strings.Contains(m, "since Linux ") {
				t.Errorf("probe %s: %q names no minimum", p.name, m)
			}
		}
	}
}

// TestKernelMissesNothing: no feature that a program uses is missing here, or in any kernel from the minimum on.
func TestKernelMissesNothing(t *testing.T) {
	requireKernel(t)
	kernel, err := btf.NewCache().Kernel()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range probes() {
		spec, err := p.load()
		if err != nil {
			t.Fatal(err)
		}
		if missing := missingFeatures(kernel, spec); len(missing) != 0 {
			t.Errorf("probe %s: this kernel has no %q", p.name, missing)
		}
	}
}

// TestBlame: an error of loading is told with what the kernel lacks.
func TestBlame(t *testing.T) {
	broken := errors.New("invalid func unknown#156")
	if err := blameMissing(broken, nil); !errors.Is(err, broken) || errors.Is(err, ErrOldKernel) {
		t.Errorf("nothing is missing: %v", err)
	}
	err := blameMissing(broken, []string{"bpf_loop (since Linux 5.17)"})
	if !errors.Is(err, broken) || !errors.Is(err, ErrOldKernel) || !strings.Contains(err.Error(), "no bpf_loop (since Linux 5.17)") {
		t.Errorf("got %v", err)
	}
	if remedy := remedyOf(err); remedy != "use Linux 6.1 or later" {
		t.Errorf("the remedy is %q", remedy)
	}
	if !slices.ContainsFunc([]string{helperName(asm.FnTaskStorageGet)}, func(s string) bool { return s == "bpf_task_storage_get" }) {
		t.Errorf("names are %q", helperName(asm.FnTaskStorageGet))
	}
}
