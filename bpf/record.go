// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"net/netip"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Record is one record of the ring, decoded. It is good until its receiver returns; what it points to belongs to the receiver.
type Record struct {
	// Time is the kernel's boot clock, converted to wall-clock time.
	Time time.Time
	// Sandbox is the cgroup id of the watched root cgroup, Cgroup that of the task itself.
	// Both are 0 in records of cgroups outside every sandbox.
	Sandbox, Cgroup uint64
	// Task is who did it.
	Task Task
	// Truncated is true when any field was cut at a limit.
	Truncated bool
	// Position is where the record ends in the ring, in bytes since the ring was made; 0 when it comes from elsewhere.
	// Ring is the ring's identity, 0 when it ends with this process.
	Position, Ring uint64
	// Counted is true when it was made from counters that the kernel side keeps: then it is no record of the ring, and
	// none of the account that Counts gives.
	Counted bool
	// Payload is an event's payload (*event.ProcessExec, *event.ProcessExit, *event.FileOpen,
	// *event.NetworkConnect, *event.NetworkFlow), or one of this package's: *Fork, *Existing,
	// *CgroupMade, *CgroupGone, *DNSMessage, *Stream, *Datagram,
	// *FileUse.
	Payload any

	// mix is what makes an open the same as another one, besides its process and file; 0 for what is always told.
	mix uint64
	// memory is what the payload is made in, while it is.
	memory *memory
	large  bool
}

// Large says whether the record tells much: then what it points to was made for it alone, and is not to be made part of
// what others are part of.
func (r *Record) Large() bool { return r.large }

// Task is the process that a record is about, as the kernel knew it at that moment.
type Task struct {
	// PID, TID and ParentPID are in the initial PID namespace, VPID is the process id in the task's own.
	PID, TID, ParentPID, VPID uint32
	// UserID and GroupID are the effective ids in the initial user namespace.
	UserID, GroupID uint32
	// Start and ParentStart are the start times of the process and of its parent, in nanoseconds of
	// the boot clock. With the boot id and the pid they are the identity of a process.
	Start, ParentStart uint64
	// StartTime is Start in wall-clock time.
	StartTime time.Time
	// Comm is the task's name, at most 15 bytes.
	Comm string
}

// Fork is the birth of a process (not of a thread). The record's Task is the child.
type Fork struct {
	// Flags is the flags of clone(2).
	Flags uint64
}

// Existing is a process that was alive when its cgroup became watched, found by the task iterator.
type Existing struct {
	// Executable is the path of the running program; Args its arguments where they could be read.
	Executable string
	Args       []string
}

// CgroupMade is the creation of a cgroup2 cgroup, inside or outside of every sandbox: selectors decide.
type CgroupMade struct {
	// ID is the cgroup's id, Path its path below the cgroup2 mount.
	ID   uint64
	Path string
}

// CgroupGone is the removal of a watched cgroup or of one of its descendants.
type CgroupGone struct {
	ID   uint64
	Path string
}

// Ends is where a packet came from and went to.
type Ends struct {
	// Peer is the other end, LocalPort the port on this side.
	Peer      netip.AddrPort
	LocalPort uint16
	// Sent is true when the sandbox sent it; Via is how, where that is known.
	Sent bool
	Via  event.Via
}

// DNSMessage is a DNS message that a socket of the sandbox sent or received. The record's Task is who sent a
// query, where that is known, and zero for an answer. It is the network's word, and anything in the sandbox can
// forge it. Its NameAnswers is empty when it is no answer, or says that there is none.
type DNSMessage struct {
	Ends
	NameAnswers
	Transport event.Transport
	// ID pairs questions and answers. Type is the question's type.
	ID   uint16
	Type string
	// Answer is true for answers: Code is their response code, Records their answer section.
	Answer  bool
	Code    string
	Records []event.DNSRecord
}

// Stream is bytes that went over a TCP connection that the sandbox made, of its first ones. They may come again,
// and later ones may come before.
type Stream struct {
	Ends
	// ID is the connection's, unique while it lasts; Offset is how many bytes of this direction were before.
	ID     uint64
	Offset uint32
	Bytes  []byte
}

// Datagram is one of the first that a socket sent to a peer, which may begin a QUIC connection.
type Datagram struct {
	Ends
	// Socket is the socket's number, unique while it lasts; Number counts the datagrams that are shown.
	Socket uint64
	Number uint32
	Bytes  []byte
}

// NameAnswers is the addresses of one DNS answer.
type NameAnswers struct {
	// Name is the name that was asked for, in lower case, without the final dot; up to 255 of any bytes.
	// Empty when the message could not be read.
	Name    string
	Answers []NameAnswer
}

// NameAnswer is one address of a name, and for how long the name may be taken for it.
type NameAnswer struct {
	Addr netip.Addr
	TTL  time.Duration
}

// SandboxCounts is the kernel's account of one kind of records in one sandbox.
type SandboxCounts struct {
	Sandbox uint64
	// Probe is the probe's name, Kind that of the records; the probe's again for what has no kind.
	Probe, Kind string
	// Seen is in-scope records. Of these, Aggregated are told by another record with a count, Dropped found no room,
	// Throttled were refused for a spent budget; the others were put into the ring.
	Seen, Aggregated, Dropped, Throttled uint64
}

// SyscallCounts is the kernel's counts of system calls of one sandbox since the tracer watches it.
type SyscallCounts struct {
	Sandbox        uint64
	Counts, Errors []event.Count
	// Processes is those that made the most calls since they were last read, most first. What it tells is part of the
	// above.
	Processes []ProcessSyscalls
	// Latencies is how long the calls took, by name; none where that is not measured.
	Latencies []event.Latency
}

// ProcessSyscalls is the kernel's counts of system calls of one process since they were last read.
type ProcessSyscalls struct {
	// Task is its ids and start; its name where it has ended.
	Task  Task
	Ended bool
	// Calls is the sum of Counts. Other is how many more it made of calls that found no room of their own: they are
	// counted with the sandbox alone.
	Calls, Other   int64
	Counts, Errors []event.Count
	// Latencies is how long all of them took, those of Other too; none where that is not measured.
	Latencies []event.Latency
}
