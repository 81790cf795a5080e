// SPDX-License-Identifier: Apache-2.0

package event

import (
	"runtime"
	"strconv"
)

// KindSyscallNotable is a single system call that changes what a process may do, or reaches into another one.
const KindSyscallNotable Kind = "watchglass.syscall.notable"

// SyscallABI is the calling convention of a system call: each has numbers of its own.
type SyscallABI string

// The conventions. On amd64 a 64-bit program can make calls of the first three, on arm64 a program those of its kind alone.
const (
	ABIX8664   SyscallABI = "x86_64"
	ABII386    SyscallABI = "i386"
	ABIX32     SyscallABI = "x32"
	ABIAArch64 SyscallABI = "aarch64"
	ABIARM     SyscallABI = "arm"
)

// NativeABI is the convention of 64-bit programs on this machine.
func NativeABI() SyscallABI {
	if runtime.GOARCH == "arm64" {
		return ABIAArch64
	}
	return ABIX8664
}

// CompatABI is the convention of 32-bit programs on this machine.
func CompatABI() SyscallABI {
	if runtime.GOARCH == "arm64" {
		return ABIARM
	}
	return ABII386
}

// SyscallArgument is one decoded argument.
type SyscallArgument struct {
	// Name is the argument's in its manual page, Value what it was, as a person would write it.
	Name, Value string
	// Claimed is true when the value is what memory of the caller held after the call, which another thread of it
	// may have changed. Other values are the kernel's own.
	Claimed bool
}

// Target is the process that a call was about.
type Target struct {
	PID, UserID uint32
	// Name is its task's name, at most 15 bytes, and Start its start time in nanoseconds of the boot clock.
	Name  string
	Start uint64
	// UID is its identity; zero when not known.
	UID ProcessID
	// Foreign is true when it is not in the sandbox of the one who called.
	Foreign bool
}

// SyscallNotable is one such call, finished.
type SyscallNotable struct {
	// Name is the system call's name in the numbers of its convention, Number its number there, which x32's own bit
	// is not part of. Number is -1 where the kernel told of the effect and not of the call.
	Name   string
	ABI    SyscallABI
	Number int
	// Arguments is the arguments that say something, in their order.
	Arguments []SyscallArgument
	// Result is what it returned, Error the error, 0 for none.
	Result int64
	Error  Errno
	// Target is the process it was about, nil when not known.
	Target *Target
	// Credentials and Namespaces are the caller's after the call; nil when not known. Namespaces are only told of calls that
	// change them.
	Credentials *Credentials
	Namespaces  *Namespaces
}

// Kind implements Payload.
func (*SyscallNotable) Kind() Kind { return KindSyscallNotable }

// Severity implements Payload.
func (*SyscallNotable) Severity() Severity { return SeverityInfo }

// Argument is the value of the argument of that name, "" when there is none.
func (s *SyscallNotable) Argument(name string) string {
	for _, a := range s.Arguments {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// AppendAttributes implements Payload.
func (s *SyscallNotable) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{SyscallName, String(s.Name)},
		Attribute{SyscallABIKey, String(string(s.ABI))})
	if s.Number >= 0 {
		dst = append(dst, Attribute{SyscallNumber, Int(int64(s.Number))})
	}
	var claimed []string
	for _, a := range s.Arguments {
		dst = append(dst, Attribute{SyscallArgumentKey + "." + Key(a.Name), String(a.Value)})
		if a.Claimed {
			claimed = append(claimed, a.Name)
		}
	}
	if len(claimed) > 0 {
		dst = append(dst, Attribute{SyscallClaimed, Strings(claimed)})
	}
	dst = append(dst, Attribute{SyscallResult, Int(s.Result)})
	dst = appendString(dst, ErrorType, s.Error.Name())
	if t := s.Target; t != nil {
		dst = append(dst,
			Attribute{TargetPID, Int(int64(t.PID))},
			Attribute{TargetUserID, Int(int64(t.UserID))},
			Attribute{TargetName, String(t.Name)},
			Attribute{TargetForeign, Bool(t.Foreign)})
		if t.UID != 0 {
			dst = append(dst, Attribute{TargetUID, idValue(t.UID)})
		}
	}
	if s.Namespaces != nil {
		dst = append(dst, Attribute{ProcessNamespaces, itemsOf(ValueMap, s.Namespaces)})
	}
	return dst
}

// AppendBody implements Payload.
func (s *SyscallNotable) AppendBody(dst []byte) []byte {
	dst = append(dst, s.Name...)
	dst = append(dst, '(')
	for i, a := range s.Arguments {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, a.Value...)
	}
	dst = append(dst, ')')
	if t := s.Target; t != nil {
		dst = append(dst, " to "...)
		dst = append(dst, t.Name...)
		dst = append(dst, " ("...)
		dst = strconv.AppendUint(dst, uint64(t.PID), 10)
		dst = append(dst, ')')
	}
	if s.Error != 0 {
		dst = append(dst, ": "...)
		return append(dst, s.Error.Name()...)
	}
	dst = append(dst, " = "...)
	return strconv.AppendInt(dst, s.Result, 10)
}
