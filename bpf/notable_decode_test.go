// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// madeCall is a record of a call as the kernel side would put it together.
type madeCall struct {
	number     uint16
	words      []uint64
	pointed    *[2]uint64
	namespaces *notableTaskNamespaces
	strings    []string
}

func (m *madeCall) bytes(t testing.TB) []byte {
	t.Helper()
	call := notableCall{Number: m.number, Arguments: uint8(len(m.words))}
	call.Header.Kind = uint16(notableNotableKindNOTABLE_CALL)
	tail, err := binary.Append(nil, binary.NativeEndian, m.words)
	if m.pointed != nil && err == nil {
		call.Flags |= uint16(notableNotableFlagsNOTABLE_POINTED)
		tail, err = binary.Append(tail, binary.NativeEndian, m.pointed)
	}
	if m.namespaces != nil && err == nil {
		call.Flags |= uint16(notableNotableFlagsNOTABLE_SPACES)
		tail, err = binary.Append(tail, binary.NativeEndian, m.namespaces)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range m.strings {
		call.Sizes[i] = uint16(len(text))
		tail = append(tail, text...)
	}
	data := recordBytes(t, &call, tail)
	renumber(data, "notable")
	return data
}

// madeCalls is a call of each form: with strings, with memory that was read, with namespaces, with neither.
func madeCalls() map[string]*madeCall {
	return map[string]*madeCall{
		"mount":   {number: unix.SYS_MOUNT, words: []uint64{1, 2, 0, unix.MS_BIND}, strings: []string{"/dev/a\nb", "/mnt", ""}},
		"bpf":     {number: unix.SYS_BPF, words: []uint64{unix.BPF_MAP_CREATE, 1, 8}, pointed: &[2]uint64{1<<32 | 2, 3}},
		"blind":   {number: unix.SYS_BPF, words: []uint64{unix.BPF_MAP_CREATE, 1, 8}},
		"unshare": {number: unix.SYS_UNSHARE, words: []uint64{unix.CLONE_NEWUTS}, namespaces: &notableTaskNamespaces{Uts: 7, Cgroup: 9}},
		"ptrace":  {number: unix.SYS_PTRACE, words: []uint64{unix.PTRACE_ATTACH, 12, 0x10, 0x20}},
	}
}

func TestDecodeCall(t *testing.T) {
	plain := func(name, value string) event.SyscallArgument { return event.SyscallArgument{Name: name, Value: value} }
	claim := func(name, value string) event.SyscallArgument {
		return event.SyscallArgument{Name: name, Value: value, Claimed: true}
	}
	want := map[string][]event.SyscallArgument{
		"mount":   {claim("source", "/dev/a\nb"), claim("target", "/mnt"), plain("mountflags", "MS_BIND")},
		"bpf":     {plain("cmd", "BPF_MAP_CREATE"), claim("attr0", "0x2"), claim("attr1", "0x1"), plain("size", "8")},
		"blind":   {plain("cmd", "BPF_MAP_CREATE"), plain("size", "8")},
		"unshare": {plain("flags", "CLONE_NEWUTS")},
		"ptrace":  {plain("request", "PTRACE_ATTACH"), plain("pid", "12"), plain("addr", "0x10"), plain("data", "0x20")},
	}
	for name, made := range madeCalls() {
		data := made.bytes(t)
		r, err := testDecoder().decode(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		call := r.Payload.(*event.SyscallNotable)
		if diff := cmp.Diff(want[name], call.Arguments); diff != "" {
			t.Errorf("%s: arguments differ (-want +got):\n%s", name, diff)
		}
		if ns := call.Namespaces; (ns != nil) != (made.namespaces != nil) || ns != nil && (ns.UTS != 7 || ns.Cgroup != 9) {
			t.Errorf("%s: namespaces are %+v", name, ns)
		}
		if n := notableBytes(data); n != len(data)-int(unsafe.Sizeof(notableCall{})) {
			t.Errorf("%s: %d bytes follow, by its own word %d", name, len(data)-int(unsafe.Sizeof(notableCall{})), n)
		}
		// Of what is not there nothing can be told.
		for n := range data {
			if _, err := testDecoder().decode(data[:n]); !errors.Is(err, errShort) && !errors.Is(err, errLength) {
				t.Fatalf("%s cut to %d bytes of %d: %v", name, n, len(data), err)
			}
		}
	}
}

// TestDecodeCallHostile: lengths that do not add up are an error, whatever else stands there.
func TestDecodeCallHostile(t *testing.T) {
	mount := madeCalls()["mount"].bytes(t)
	const sizes, arguments = unsafe.Offsetof(notableCall{}.Sizes), unsafe.Offsetof(notableCall{}.Arguments)
	for name, spoil := range map[string]func([]byte){
		"a string longer than the record":     func(b []byte) { b[sizes+1] = 0xff },
		"the last string beyond the end":      func(b []byte) { b[sizes+4] = 1 },
		"more arguments than a call can have": func(b []byte) { b[arguments] = maxArguments + 1 },
		"as many arguments as a byte says":    func(b []byte) { b[arguments] = 0xff },
		"fewer arguments than the call has":   func(b []byte) { b[arguments] = 3 },
		"no arguments":                        func(b []byte) { b[arguments] = 0 },
	} {
		data := slices.Clone(mount)
		spoil(data)
		if _, err := testDecoder().decode(data); !errors.Is(err, errLength) && !errors.Is(err, errShort) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNotableBytes holds what a notable call takes of the ring to a small part of what it once took: 1,840 bytes each.
func TestNotableBytes(t *testing.T) {
	want := map[string]uintptr{"mount": 248, "bpf": 240, "blind": 224, "unshare": 240, "ptrace": 232}
	for name, made := range madeCalls() {
		if got := inRing(uintptr(len(made.bytes(t)))); got != want[name] {
			t.Errorf("%s takes %d bytes of the ring, want %d", name, got, want[name])
		}
	}
}

// FuzzDecodeNotable starts from a call of each form, and a signal: arguments of any kind, in any convention, of any length
// they claim.
func FuzzDecodeNotable(f *testing.F) {
	for _, made := range madeCalls() {
		f.Add(made.bytes(f))
	}
	signal := notableSignal{Number: 9}
	signal.Header.Kind = uint16(notableNotableKindNOTABLE_SIGNAL)
	f.Add(recordBytes(f, &signal, nil))
	fuzzDecode(f, "notable")
}
