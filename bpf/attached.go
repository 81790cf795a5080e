// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// AttachedPrograms is the names of the programs that hang on this kernel's tracepoints and functions, in order and each once: this
// package's, of whatever process, and others'. Programs of cgroups and devices are not among them. Needs CAP_SYS_ADMIN.
func AttachedPrograms() ([]string, error) {
	names := map[string]bool{}
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err != nil || info.Type != link.RawTracepointType && info.Type != link.TracingType {
			continue // it is gone meanwhile, or hangs elsewhere
		}
		names[programName(info.Program)] = true
	}
	if err := links.Err(); err != nil {
		return nil, fmt.Errorf("listing what hangs on the kernel's hooks: %w", err)
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// programName is a program's name, as far as it is to be had.
func programName(id ebpf.ProgramID) string {
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "unknown"
	}
	defer program.Close() //nolint:errcheck // only read
	info, err := program.Info()
	if err != nil || info.Name == "" {
		return "unnamed"
	}
	return info.Name
}
