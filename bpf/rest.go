// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
)

// loadRest loads what the kernel takes of an object that it refused, which it does as a whole for a single program of it.
// refused is why it does not take the others; err is reason where it takes none, or where what it refuses is a part of the
// trampoline plan: that is followed as a whole, or not.
func (p *loadedProbe) loadRest(spec *ebpf.CollectionSpec, options ebpf.CollectionOptions, reason error) (rest *ebpf.Collection, refused, err error) {
	without := map[string]error{}
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		alone := spec.Copy()
		maps.DeleteFunc(alone.Programs, func(other string, _ *ebpf.ProgramSpec) bool { return other != name })
		collection, err := ebpf.NewCollectionWithOptions(alone, options)
		if err == nil {
			collection.Close()
			continue
		}
		h := hook{kind: spec.Programs[name].Type, attach: spec.Programs[name].AttachType}
		if p.plan == PlanTrampoline && h.hangs() {
			return nil, nil, reason
		}
		without[name] = fmt.Errorf("program %s: %w", name, err)
	}
	if len(without) == 0 || len(without) == len(spec.Programs) {
		return nil, nil, reason
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return without[name] != nil })
	if rest, err = ebpf.NewCollectionWithOptions(spec, options); err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(without)) {
		refused = errors.Join(refused, without[name])
	}
	return rest, refused, nil
}
