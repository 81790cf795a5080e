// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// eachEntry visits the entries of a hash, of which it reads as many by one call as there is room for in keys and values.
func eachEntry[K, V any](m *ebpf.Map, keys []K, values []V, visit func(key K, value *V)) error {
	for cursor := (ebpf.MapBatchCursor{}); ; {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			visit(keys[i], &values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil // that was all
		}
		if err != nil {
			return err
		}
	}
}

// takeEntry takes an entry out of a hash. A key that is a struct goes by address: cilium/ebpf puts one that does not together
// field by field.
func takeEntry(m *ebpf.Map, key, value any) error {
	err := m.LookupAndDelete(key, value)
	// Where the kernel does not know how to do both at once.
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		if err = m.Lookup(key, value); err == nil {
			err = m.Delete(key)
		}
	}
	return err
}
