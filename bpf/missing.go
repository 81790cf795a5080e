// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// ErrOldKernel says that the kernel lacks what the programs are made of. The message names it, and since when Linux has it.
var ErrOldKernel = errors.New("this kernel lacks what Watchglass needs: use Linux 6.1 or later")

// since is the Linux that something which programs use came with; what is older than 5.8 is not in the list.
func since() map[string]string {
	return map[string]string{
		"bpf_task_storage_get":       "5.11",
		"bpf_task_storage_delete":    "5.11",
		"bpf_get_current_task_btf":   "5.11",
		"bpf_ktime_get_coarse_ns":    "5.11",
		"bpf_for_each_map_elem":      "5.13",
		"bpf_get_attach_cookie":      "5.15, for functions 5.19",
		"bpf_task_pt_regs":           "5.15",
		"bpf_find_vma":               "5.17",
		"bpf_loop":                   "5.17",
		"bpf_strncmp":                "5.17",
		"bpf_get_func_arg":           "5.17",
		"bpf_get_func_ret":           "5.17",
		"bpf_copy_from_user_task":    "5.18",
		"bpf_map_lookup_percpu_elem": "5.19",
		"bpf_dynptr_from_mem":        "5.19",
		"bpf_ringbuf_reserve":        "5.8",
		"bpf_ringbuf_query":          "5.8",
		"bpf_sk_storage_get":         "5.2, for tracing 5.11",
		"bpf_d_path":                 "5.10",
		"maps of type task_storage":  "5.11",
		"maps of type ringbuf":       "5.8",
		"maps of type sk_storage":    "5.2",
		"maps of type cgrp_storage":  "6.2",
	}
}

// missingFeatures is what programs of an object use and a kernel, by its types, does not have: functions for programs, and
// types of maps. Each is told with the Linux that it came with. Nil where all is there, or the kernel does not say.
func missingFeatures(kernel *btf.Spec, spec *ebpf.CollectionSpec) []string {
	missing := map[string]bool{}
	if known := enumValues(kernel, "bpf_func_id"); known != nil {
		for _, program := range spec.Programs {
			for _, instruction := range program.Instructions {
				if instruction.IsBuiltinCall() && !known[uint64(instruction.Constant)] {
					missing[helperName(asm.BuiltinFunc(instruction.Constant))] = true
				}
			}
		}
	}
	if known := enumValues(kernel, "bpf_map_type"); known != nil {
		for _, m := range spec.Maps {
			if !known[uint64(m.Type)] {
				missing["maps of type "+mapTypeName(m.Type)] = true
			}
		}
	}
	all := make([]string, 0, len(missing))
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		if from := since()[name]; from != "" {
			name += " (since Linux " + from + ")"
		}
		all = append(all, name)
	}
	return all
}

// enumValues is the values that an enumeration of the kernel has, nil where it has none of the name.
func enumValues(kernel *btf.Spec, name string) map[uint64]bool {
	var enum *btf.Enum
	if kernel.TypeByName(name, &enum) != nil {
		return nil
	}
	values := map[uint64]bool{}
	for _, v := range enum.Values {
		// The last one of all bounds them, and is none itself.
		if !strings.HasPrefix(v.Name, "__") {
			values[v.Value] = true
		}
	}
	return values
}

// helperName is the kernel's name of a function for programs: bpf_task_storage_get of FnTaskStorageGet.
func helperName(f asm.BuiltinFunc) string {
	return "bpf" + snake(strings.TrimPrefix(f.String(), "Fn"))
}

// mapTypeName is the kernel's name of a type of maps, without what all of them begin with.
func mapTypeName(m ebpf.MapType) string {
	if m == ebpf.RingBuf {
		return "ringbuf"
	}
	return strings.TrimPrefix(snake(m.String()), "_")
}

// snake writes words that begin with capitals in small letters, each after a line.
func snake(words string) string {
	var out strings.Builder
	for _, r := range words {
		if r >= 'A' && r <= 'Z' {
			out.WriteByte('_')
			r += 'a' - 'A'
		}
		out.WriteRune(r)
	}
	return out.String()
}

// blame names what the kernel lacks of what an object is made of, where an error of loading it may come from that.
func blame(err error, spec *ebpf.CollectionSpec, cache *btf.Cache) error {
	if errors.Is(err, unix.EPERM) {
		return err
	}
	kernel, kernelErr := cache.Kernel()
	if kernelErr != nil {
		return err
	}
	return blameMissing(err, missingFeatures(kernel, spec))
}

func blameMissing(err error, missing []string) error {
	if len(missing) == 0 {
		return err
	}
	return fmt.Errorf("%w: it has no %s (%w)", ErrOldKernel, strings.Join(missing, ", no "), err)
}
