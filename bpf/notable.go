// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

const (
	// notableNumbers bounds the numbers of each calling convention (NOTABLE_NUMBERS).
	notableNumbers = 1024
	// maxArguments is how many arguments a call has at most (NOTABLE_ARGUMENTS).
	maxArguments = 6
)

// notable is one notable system call: what is told of it, by kernel and decoder alike.
type notable struct {
	name string
	// place is the call's among all of them.
	place int
	// arguments is by position; one without a name is not told.
	arguments []argument
	// only is the first arguments with which it is told; nil for all.
	only []uint32
	// denied is whether it is only told when it was refused for lack of a right.
	denied bool
	// namespaces is whether it changes namespaces, so that those after it are told.
	namespaces bool
	// memory is whether it is only told when it makes memory executable that is no unchanged file.
	memory bool
	// maps is whether that memory is where its result says, and not its first argument.
	maps bool
	// often is whether ordinary programs make it, and often: then programs of their own hang on its entries, under the
	// trampoline plan.
	often bool
}

// argument is how one argument is told.
type argument struct {
	name   string
	format format
	// table is the names of values or of bits.
	table []named
}

// format is how the value of an argument is written.
type format uint8

const (
	formatDecimal format = iota // a signed number of 32 bits: descriptors, ids, processes
	formatHex
	formatString  // memory of the caller, up to NOTABLE_TEXT_BYTES
	formatOne     // one of the table's values
	formatBits    // a set of the table's bits
	formatSignal  // a signal
	formatPointed // 16 bytes of memory of the caller: those of the table, in its order, 4 bytes each, "" passed over
	formatWide    // two words of 8 bytes of memory of the caller
)

// named is a name of a value or a bit.
type named struct {
	value uint64
	name  string
}

// notableTable is the notable calls by convention and number.
type notableTable [notableNotableAbiNOTABLE_ABIS][notableNumbers]*notable

// newNotableTable finds the numbers of the calls.
func newNotableTable() *notableTable {
	byName := map[string]*notable{}
	for i, n := range notableCalls() {
		n.place = i
		byName[n.name] = &n
	}
	table := &notableTable{}
	for abi := range table {
		for number := range table[abi] {
			table[abi][number] = byName[callName(uint32(number), notableNotableAbi(abi))]
		}
	}
	return table
}

// prepare fills the kernel's table.
func (t *notableTable) prepare(spec *ebpf.CollectionSpec, _ *Config, _ *btf.Cache) error {
	table := spec.Maps["notable_specs"]
	for abi := range t {
		for number, n := range t[abi] {
			if n == nil {
				continue
			}
			s, err := n.spec()
			if err != nil {
				return err
			}
			table.Contents = append(table.Contents, ebpf.MapKV{Key: uint32(abi*notableNumbers + number), Value: s})
		}
	}
	return nil
}

// spec is the kernel's form of the call.
func (n *notable) spec() (notableNotableSpec, error) {
	s := notableNotableSpec{Listed: uint8(n.place + 1), Arguments: uint8(len(n.arguments)), Count: uint8(len(n.only))}
	if copy(s.Values[:], n.only) < len(n.only) || len(n.arguments) > maxArguments || n.place >= math.MaxUint8 {
		return s, fmt.Errorf("the table of notable calls has more of %s than the kernel side has room for", n.name)
	}
	strings := 0
	for i, a := range n.arguments {
		switch a.format {
		case formatString:
			const wide = 4 // bits of each
			s.Strings |= uint16(i+1) << (wide * strings)
			strings++
		case formatPointed, formatWide:
			s.Pointed = uint8(i + 1)
		case formatDecimal, formatHex, formatOne, formatBits, formatSignal:
		}
	}
	for _, f := range []struct {
		on   bool
		flag notableNotableFlags
	}{
		{n.denied, notableNotableFlagsNOTABLE_DENIED},
		{n.memory, notableNotableFlagsNOTABLE_MEMORY},
		{n.maps, notableNotableFlagsNOTABLE_MAPS},
		{n.namespaces, notableNotableFlagsNOTABLE_SPACES},
	} {
		if f.on {
			s.Flags |= uint16(f.flag)
		}
	}
	return s, nil
}

// callName is the kernel's name of a number in a calling convention, "" when it has none.
func callName(number uint32, abi notableNotableAbi) string {
	names := syscallNames[:]
	switch abi {
	case notableNotableAbiNOTABLE_COMPAT:
		names = compatSyscallNames[:]
	case notableNotableAbiNOTABLE_X32:
		if !hasX32 {
			return ""
		}
		if number >= firstX32 {
			names = x32Names()
			number -= firstX32
		}
	case notableNotableAbiNOTABLE_NATIVE, notableNotableAbiNOTABLE_ABIS:
	}
	if int(number) >= len(names) {
		return ""
	}
	return names[number]
}

// firstX32 is the first number of the calls that x32 has for itself; below it shares those of 64-bit programs.
const firstX32 = 512

// x32Names is the calls that x32 has for itself (arch/x86/entry/syscalls/syscall_64.tbl).
func x32Names() []string {
	return []string{
		"rt_sigaction", "rt_sigreturn", "ioctl", "readv", "writev", "recvfrom", "sendmsg", "recvmsg", "execve", "ptrace",
		"rt_sigpending", "rt_sigtimedwait", "rt_sigqueueinfo", "sigaltstack", "timer_create", "mq_notify", "kexec_load",
		"waitid", "set_robust_list", "get_robust_list", "vmsplice", "move_pages", "preadv", "pwritev", "rt_tgsigqueueinfo",
		"recvmmsg", "sendmmsg", "process_vm_readv", "process_vm_writev", "setsockopt", "getsockopt", "io_setup", "io_submit",
		"execveat", "preadv2", "pwritev2",
	}
}

// decode decodes a record of the notable probe.
func (t *notableTable) decode(r *Record, kind uint16, data []byte) error {
	switch notableNotableKind(kind) {
	case notableNotableKindNOTABLE_CALL:
		return t.decodeCall(r, data)
	case notableNotableKindNOTABLE_SIGNAL:
		return decodeSignal(r, data)
	default:
		return fmt.Errorf("%w: kind %d", errUnknown, kind)
	}
}

func (t *notableTable) decodeCall(r *Record, data []byte) error {
	call, err := viewCall(data)
	if err != nil {
		return err
	}
	var n *notable
	if int(call.Abi) < len(t) && call.Number < notableNumbers {
		n = t[call.Abi][call.Number]
	}
	if n == nil {
		return fmt.Errorf("%w: system call %d of convention %d", errUnknown, call.Number, call.Abi)
	}
	credentials := processTaskCredentials(call.Credentials)
	called := keep(r.memory, &r.memory.calls, called{credentials: credentials.credentials()})
	p := &called.call
	*p = event.SyscallNotable{
		Name: n.name, ABI: abiName(notableNotableAbi(call.Abi)), Number: int(call.Number), Result: call.Result, Credentials: &called.credentials,
	}
	const maxErrno = 4095
	if call.Result < 0 && call.Result >= -maxErrno {
		p.Error = event.Errno(-call.Result)
	}
	if n.namespaces && call.has(notableNotableFlagsNOTABLE_SPACES) {
		ns := call.namespaces
		p.Namespaces = &called.namespaces
		*p.Namespaces = event.Namespaces{
			Cgroup: ns.Cgroup, IPC: ns.Ipc, Mount: ns.Mnt, Net: ns.Net, PID: ns.Pid, Time: ns.Time, User: ns.User, UTS: ns.Uts,
		}
	}
	// The arguments of the old mmap of i386 lie in memory: only what became of them is told.
	const compatOldMmap = 90
	if notableNotableAbi(call.Abi) != notableNotableAbiNOTABLE_COMPAT || call.Number != compatOldMmap {
		if p.Arguments, err = n.decode(&call); err != nil {
			return err
		}
	}
	if n.memory {
		p.Arguments = append(p.Arguments, event.SyscallArgument{Name: "memory", Value: memoryForm(&call)})
	}
	r.Payload = p
	return nil
}

func abiName(abi notableNotableAbi) event.SyscallABI {
	switch abi {
	case notableNotableAbiNOTABLE_COMPAT:
		return event.CompatABI()
	case notableNotableAbiNOTABLE_X32:
		return event.ABIX32
	case notableNotableAbiNOTABLE_NATIVE, notableNotableAbiNOTABLE_ABIS:
	}
	return event.NativeABI()
}

// toldCall is a record of a call, and what followed its fixed part.
type toldCall struct {
	notableCall
	words      [maxArguments]uint64
	pointed    [2]uint64
	namespaces notableTaskNamespaces
	// text is the strings, one after the other.
	text []byte
}

func (c *toldCall) has(flag notableNotableFlags) bool { return c.Flags&uint16(flag) != 0 }

// viewCall takes a record of a call apart.
func viewCall(data []byte) (toldCall, error) {
	var call toldCall
	var err error
	if call.notableCall, data, err = view[notableCall](data); err != nil {
		return call, err
	}
	if call.Arguments > maxArguments {
		return call, fmt.Errorf("%w: %d arguments", errLength, call.Arguments)
	}
	for i := range call.Arguments {
		if call.words[i], data, err = view[uint64](data); err != nil {
			return call, err
		}
	}
	if call.has(notableNotableFlagsNOTABLE_POINTED) {
		if call.pointed, data, err = view[[2]uint64](data); err != nil {
			return call, err
		}
	}
	if call.has(notableNotableFlagsNOTABLE_SPACES) {
		if call.namespaces, data, err = view[notableTaskNamespaces](data); err != nil {
			return call, err
		}
	}
	call.text = data
	return call, nil
}

// decode writes the arguments of a call.
func (n *notable) decode(call *toldCall) ([]event.SyscallArgument, error) {
	var all []event.SyscallArgument
	if told := int(call.Arguments); told < len(n.arguments) {
		return nil, fmt.Errorf("%w: %d arguments of %d of %s", errLength, told, len(n.arguments), n.name)
	}
	strings, rest := 0, call.text
	for i, a := range n.arguments {
		value := call.words[i]
		switch a.format {
		case formatString:
			text, after, err := take(rest, uint32(call.Sizes[strings]))
			if err != nil {
				return nil, err
			}
			strings, rest = strings+1, after
			if value != 0 {
				all = append(all, event.SyscallArgument{Name: a.name, Value: string(text), Claimed: true})
			}
		case formatPointed, formatWide:
			if call.has(notableNotableFlagsNOTABLE_POINTED) {
				all = append(all, a.pointed(call.pointed)...)
			}
		case formatDecimal, formatHex, formatOne, formatBits, formatSignal:
			if a.name != "" {
				all = append(all, event.SyscallArgument{Name: a.name, Value: a.write(value)})
			}
		}
	}
	return all, nil
}

// memoryForm is what the memory of a call is, in words: "anonymous", "file changed", and "writable" with each.
func memoryForm(call *toldCall) string {
	var words []string
	for _, w := range []struct {
		flag notableNotableFlags
		word string
	}{
		{notableNotableFlagsNOTABLE_ANONYMOUS, "anonymous"},
		{notableNotableFlagsNOTABLE_FILE, "file"},
		{notableNotableFlagsNOTABLE_CHANGED, "changed"},
		{notableNotableFlagsNOTABLE_WRITABLE, "writable"},
	} {
		if call.has(w.flag) {
			words = append(words, w.word)
		}
	}
	if len(words) == 0 {
		return "unknown"
	}
	return strings.Join(words, " ")
}

// pointed writes the memory that the argument pointed to.
func (a *argument) pointed(words [2]uint64) []event.SyscallArgument {
	var all []event.SyscallArgument
	if a.format == formatWide {
		for i, entry := range a.table {
			all = append(all, event.SyscallArgument{Name: entry.name, Value: hexadecimal(words[i]), Claimed: true})
		}
		return all
	}
	var bytes [16]byte
	binary.NativeEndian.PutUint64(bytes[:], words[0])
	binary.NativeEndian.PutUint64(bytes[8:], words[1])
	for i, entry := range a.table {
		if entry.name != "" {
			value := binary.NativeEndian.Uint32(bytes[4*i:])
			all = append(all, event.SyscallArgument{Name: entry.name, Value: hexadecimal(uint64(value)), Claimed: true})
		}
	}
	return all
}

// write is the value of an argument as a person would write it.
func (a *argument) write(value uint64) string {
	switch a.format {
	case formatDecimal:
		return strconv.FormatInt(int64(int32(value)), 10)
	case formatOne:
		for _, v := range a.table {
			if v.value == uint64(uint32(value)) {
				return v.name
			}
		}
		return hexadecimal(uint64(uint32(value)))
	case formatBits:
		return writeBits(value, a.table)
	case formatSignal:
		return event.SignalName(int(int32(value)))
	case formatHex, formatString, formatPointed, formatWide:
	}
	return hexadecimal(value)
}

// hexadecimal is a number with its prefix, by one allocation.
func hexadecimal(value uint64) string {
	digits := [len("0x") + 16]byte{'0', 'x'}
	return string(strconv.AppendUint(digits[:2], value, 16))
}

// writeBits is the names of the bits of a set, and what is left as a number.
func writeBits(value uint64, table []named) string {
	var names []string
	for _, bit := range table {
		if value&bit.value == bit.value && bit.value != 0 {
			names = append(names, bit.name)
			value &^= bit.value
		}
	}
	if value != 0 || len(names) == 0 {
		names = append(names, hexadecimal(value))
	}
	return strings.Join(names, "|")
}

// decodeSignal makes a signal a call of kill, which in effect it is.
func decodeSignal(r *Record, data []byte) error {
	signal, _, err := view[notableSignal](data)
	if err != nil {
		return err
	}
	const (
		siQueue, siTkill = -1, -6
		lost             = 3 // and above: it found no room
	)
	name := "kill"
	switch signal.Code {
	case siQueue:
		name = "rt_sigqueueinfo"
	case siTkill:
		name = "tgkill"
	}
	m := r.memory
	signalled := keep(m, &m.signals, signalled{target: event.Target{
		PID: signal.TargetPid, UserID: signal.TargetUid, Name: m.comms.of(beforeNUL(signal.TargetComm[:])), Start: signal.TargetStart,
		Foreign: signal.TargetSandbox != signal.Header.Sandbox,
	}})
	signalled.arguments[0] = event.SyscallArgument{Name: "sig", Value: event.SignalName(int(signal.Number))}
	p := &signalled.call
	*p = event.SyscallNotable{
		Name: name, ABI: event.NativeABI(), Number: -1, Arguments: signalled.arguments[:], Target: &signalled.target,
	}
	if signal.Result >= lost {
		p.Error, p.Result = event.Errno(unix.EAGAIN), -int64(unix.EAGAIN)
	}
	r.Payload = p
	return nil
}

// NewNamespaces is the names of the flags that asked for namespaces of its own, "" for none.
func (f *Fork) NewNamespaces() string {
	const asking = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME
	if f.Flags&asking == 0 {
		return ""
	}
	return writeBits(f.Flags&asking, namespaceFlags())
}
