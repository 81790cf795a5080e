// SPDX-License-Identifier: Apache-2.0

package event

import "strconv"

// KindTakeover is that a collector goes on where another ended, told once when it starts.
const KindTakeover Kind = "watchglass.telemetry.takeover"

// RingFate is what became of what the collector before had seen and not told.
type RingFate string

// The fates.
const (
	// RingContinued: the same ring goes on to be used.
	RingContinued RingFate = "continued"
	// RingRead: a new one is used, and the old one is read to its end first.
	RingRead RingFate = "read"
	// RingDiscarded: its records are of another form, so that they are only counted, as lost.
	RingDiscarded RingFate = "discarded"
)

// RingFates is all of them.
func RingFates() []RingFate { return []RingFate{RingContinued, RingRead, RingDiscarded} }

// Takeover is how one collector goes on where another ended.
type Takeover struct {
	// How is what of the other's programs and maps is kept: adopted, updated or replaced.
	How Pinning
	// Ring is what becomes of the other's ring, Unread how many bytes waited there.
	Ring   RingFate
	Unread uint64
	// Version and PID are the other's, Sandboxes how many it watched.
	Version   string
	PID       int
	Sandboxes int
}

// Kind implements Payload.
func (*Takeover) Kind() Kind { return KindTakeover }

// Severity implements Payload.
func (t *Takeover) Severity() Severity {
	if t.How == PinningReplaced || t.Ring == RingDiscarded {
		return SeverityWarn // what the kernel side kept of connections, counts and calls that go on is gone
	}
	return SeverityInfo
}

// AppendAttributes implements Payload.
func (t *Takeover) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{TakeoverHow, String(string(t.How))}, Attribute{TakeoverRing, String(string(t.Ring))},
		Attribute{TakeoverUnread, Int(int64(t.Unread))}, Attribute{TakeoverSandboxes, Int(int64(t.Sandboxes))})
	dst = appendString(dst, TakeoverVersion, t.Version)
	if t.PID != 0 {
		dst = append(dst, Attribute{TakeoverPID, Int(int64(t.PID))})
	}
	return dst
}

// AppendBody implements Payload.
func (t *Takeover) AppendBody(dst []byte) []byte {
	dst = append(dst, t.How...)
	dst = append(dst, " what version "...)
	dst = strconv.AppendQuote(dst, t.Version)
	dst = append(dst, " left at work, its ring "...)
	dst = append(dst, t.Ring...)
	dst = append(dst, " with "...)
	dst = strconv.AppendUint(dst, t.Unread, 10)
	dst = append(dst, " bytes unread, of "...)
	dst = strconv.AppendInt(dst, int64(t.Sandboxes), 10)
	return append(dst, " sandboxes"...)
}
