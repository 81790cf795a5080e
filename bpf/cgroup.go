// SPDX-License-Identifier: Apache-2.0

package bpf

import "fmt"

// decodeCgroup decodes a record of the cgroup probe.
func decodeCgroup(r *Record, kind uint16, data []byte) error {
	change, _, err := view[cgroupChange](data)
	if err != nil {
		return err
	}
	path, _, err := take(change.Path[:], change.PathSize)
	if err != nil {
		return err
	}
	switch cgroupChangeKind(kind) {
	case cgroupChangeKindCHANGE_MADE:
		r.Payload = keep(r.memory, &r.memory.made, CgroupMade{ID: change.Id, Path: r.memory.text(path)})
	case cgroupChangeKindCHANGE_GONE:
		r.Payload = keep(r.memory, &r.memory.gone, CgroupGone{ID: change.Id, Path: r.memory.text(path)})
	default:
		return fmt.Errorf("%w: kind %d", errUnknown, kind)
	}
	if r.Sandbox == 0 {
		r.Cgroup = 0
	}
	return nil
}
