// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// layout is hashes by which a set of pins is known to fit: what is equal means the same to old and new programs.
type layout struct {
	// maps is of every pinned map's form, records of every record's, with the places of probes, kinds and accounts;
	// programs of the programs and their constants.
	maps, records, programs string
}

// layoutOf is the layout of the probes, those that are off too: whether one is on changes no other.
func layoutOf(probes []loadedProbe, prepare func(*ebpf.CollectionSpec, *loadedProbe, int) error) (*layout, error) {
	forms, records, programs := form{sha256.New()}, form{sha256.New()}, form{sha256.New()}
	for i := range probes {
		p := &probes[i]
		spec, err := p.load()
		if err != nil {
			return nil, fmt.Errorf("reading the object of probe %s: %w", p.name, err)
		}
		if err := prepare(spec, p, i); err != nil {
			return nil, fmt.Errorf("probe %s: %w", p.name, err)
		}
		forms.say(p.name)
		records.say(p.name, p.slot, p.kinds)
		for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
			m := spec.Maps[name]
			if pinnedMap(m) {
				forms.say(name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags)
				describeType(forms, m.Key)
				describeType(forms, m.Value)
			}
			if !pinnedMap(m) && m.Type != ebpf.PerCPUArray {
				for _, entry := range m.Contents {
					programs.say(name, entry.Key)
					programs.say(entry.Value)
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Variables)) {
			if v := spec.Variables[name]; v.Constant() {
				programs.say(name, v.Value)
			}
		}
		describeRecords(records, spec.Types)
		for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
			programs.say(name, spec.Programs[name].AttachTo, p.off)
			programs.instruct(spec.Programs[name].Instructions)
		}
	}
	return &layout{maps: forms.sum(), records: records.sum(), programs: programs.sum()}, nil
}

// form is a hash of what is said.
type form struct{ hash.Hash }

func (f form) say(words ...any) { _, _ = fmt.Fprintln(f, words...) } // documented never to fail

// instruct says instructions, with what they refer to by name, and what of the kernel's types they ask for. Of the text that the library makes of them half of the time
// would go into making it.
func (f form) instruct(all asm.Instructions) {
	var said []byte
	for i := range all {
		ins := &all[i]
		said = binary.LittleEndian.AppendUint32(said, uint32(ins.OpCode))
		said = append(said, byte(ins.Dst), byte(ins.Src))
		said = binary.LittleEndian.AppendUint16(said, uint16(ins.Offset))
		said = binary.LittleEndian.AppendUint64(said, uint64(ins.Constant))
		asks := ""
		if relocation := btf.CORERelocationMetadata(ins); relocation != nil {
			asks = relocation.String()
		}
		for _, name := range [...]string{ins.Symbol(), ins.Reference(), asks} {
			said = binary.LittleEndian.AppendUint32(said, uint32(len(name)))
			said = append(said, name...)
		}
	}
	_, _ = f.Write(said) // documented never to fail
}

func (f form) sum() string { return fmt.Sprintf("%x", f.Sum(nil)[:8]) }

// describeRecords tells the types that cross from C: those that are named to the generator (ABI_STRUCT).
func describeRecords(w form, types *btf.Spec) {
	found := map[string]btf.Type{}
	for t, err := range types.All() {
		if v, ok := t.(*btf.Var); ok && err == nil && strings.HasPrefix(v.Name, "abi_") {
			found[v.Name] = v.Type
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		t := btf.UnderlyingType(found[name])
		if p, ok := t.(*btf.Pointer); ok {
			t = p.Target
		}
		w.say(name)
		describeType(w, t)
	}
}

// describeType tells the form of a type that has no pointers to follow.
func describeType(w form, t btf.Type) {
	if t == nil {
		return
	}
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		w.say(t.Name, t.Size)
		for _, m := range t.Members {
			w.say(m.Name, m.Offset, m.BitfieldSize)
			describeType(w, m.Type)
		}
	case *btf.Array:
		w.say(t.Nelems)
		describeType(w, t.Type)
	case *btf.Enum:
		w.say(t.Size, t.Values)
	default:
		w.say(fmt.Sprintf("%T", t), t.TypeName())
	}
}
