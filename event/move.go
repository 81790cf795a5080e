// SPDX-License-Identifier: Apache-2.0

package event

// KindProcessMove is the move of a process to another cgroup: into, out of, within or between sandboxes.
const KindProcessMove Kind = "watchglass.process.move"

// MoveDirection is how a move is to the sandboxes.
type MoveDirection string

// The directions. A process that moved out keeps its sandbox: it and its children are still watched.
const (
	MoveIn      MoveDirection = "in"
	MoveOut     MoveDirection = "out"
	MoveWithin  MoveDirection = "within"
	MoveBetween MoveDirection = "between"
)

// Mover is the process that moved another one, or itself.
type Mover struct {
	PID, UserID uint32
	// Name is its task's name, at most 15 bytes, and Start its start time in nanoseconds of the boot clock.
	Name  string
	Start uint64
	// UID is its identity; zero when not known.
	UID ProcessID
}

// ProcessMove is a process that went to another cgroup. A move between sandboxes is told in both.
type ProcessMove struct {
	Direction MoveDirection
	// From and To are the cgroups' paths below the cgroup2 mount, "" where not known; FromID and ToID their ids,
	// FromID 0 where not known.
	From, To     string
	FromID, ToID uint64
	// Born is true when the process was not moved but born in the other cgroup. Thread is true when only one thread was moved.
	Born, Thread bool
	Mover        Mover
}

// Kind implements Payload.
func (*ProcessMove) Kind() Kind { return KindProcessMove }

// Severity implements Payload: who leaves a sandbox leaves its limits too.
func (m *ProcessMove) Severity() Severity {
	switch m.Direction {
	case MoveOut, MoveBetween:
		return SeverityWarn
	case MoveIn, MoveWithin:
	}
	return SeverityInfo
}

// AppendAttributes implements Payload.
func (m *ProcessMove) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst, Attribute{MoveDirectionKey, String(string(m.Direction))})
	dst = appendString(dst, MoveFrom, m.From)
	dst = appendString(dst, MoveTo, m.To)
	dst = append(dst, Attribute{MoveToID, Int(int64(m.ToID))})
	if m.FromID != 0 {
		dst = append(dst, Attribute{MoveFromID, Int(int64(m.FromID))})
	}
	if m.Born {
		dst = append(dst, Attribute{MoveBorn, Bool(true)})
	}
	if m.Thread {
		dst = append(dst, Attribute{MoveThread, Bool(true)})
	}
	dst = append(dst,
		Attribute{MoverPID, Int(int64(m.Mover.PID))},
		Attribute{MoverUserID, Int(int64(m.Mover.UserID))},
		Attribute{MoverName, String(m.Mover.Name)})
	if m.Mover.UID != 0 {
		dst = append(dst, Attribute{MoverUID, idValue(m.Mover.UID)})
	}
	return dst
}

// AppendBody implements Payload.
func (m *ProcessMove) AppendBody(dst []byte) []byte {
	switch {
	case m.Born:
		dst = append(dst, "was born "...)
	case m.Thread:
		dst = append(dst, "had a thread moved "...)
	default:
		dst = append(dst, "was moved "...)
	}
	switch m.Direction {
	case MoveOut:
		dst = append(dst, "out of the sandbox to "...)
	case MoveIn:
		dst = append(dst, "into the sandbox at "...)
	case MoveBetween:
		dst = append(dst, "between sandboxes to "...)
	case MoveWithin:
		dst = append(dst, "to "...)
	}
	if m.To == "" {
		dst = append(dst, "another cgroup"...)
	}
	dst = append(dst, m.To...)
	dst = append(dst, " by "...)
	return append(dst, m.Mover.Name...)
}
