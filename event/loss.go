// SPDX-License-Identifier: Apache-2.0

package event

import (
	"strconv"
	"time"
)

// KindLoss is the loss of events, told as an event.
const KindLoss Kind = "watchglass.telemetry.loss"

// LossWhere is the stage at which events were lost.
type LossWhere string

// The stages.
const (
	LossRing   LossWhere = "ring"
	LossDecode LossWhere = "decode"
	LossQueue  LossWhere = "queue"
	LossExport LossWhere = "export"
	// LossJournal is between the journal and its readers: what it had no room for, what it had to remove before
	// a destination got it, what a crash took.
	LossJournal LossWhere = "journal"
)

// Loss says that Count events were lost since the previous report of the same stage, kind and sandbox.
type Loss struct {
	Stage LossWhere
	// Lost is the kind of the lost events, or the probe's, exporter's or destination's name.
	Lost string
	// Count is how many, since the previous report.
	Count uint64
	// Reason is one of ring_full, budget, missed, queue_full, malformed, unknown_sandbox, refused, given_up, evicted (what
	// was put together had to make room); at the journal crash, torn, evicted, damaged, disk_full, write_failed, too_large.
	Reason string
	// Since is the begin of the interval in which they were lost, which ends at the event's time; zero when not known.
	Since time.Time
}

// Kind implements Payload.
func (*Loss) Kind() Kind { return KindLoss }

// Severity implements Payload.
func (*Loss) Severity() Severity { return SeverityWarn }

// AppendAttributes implements Payload.
func (l *Loss) AppendAttributes(dst []Attribute) []Attribute {
	if !l.Since.IsZero() {
		dst = append(dst, Attribute{LossSince, Timestamp(l.Since)})
	}
	return append(dst,
		Attribute{LossStage, String(string(l.Stage))},
		Attribute{LossKind, String(l.Lost)},
		Attribute{LossCount, Int(int64(l.Count))},
		Attribute{LossReason, String(l.Reason)})
}

// AppendBody implements Payload.
func (l *Loss) AppendBody(dst []byte) []byte {
	dst = append(dst, "lost "...)
	dst = strconv.AppendUint(dst, l.Count, 10)
	dst = append(dst, ' ')
	dst = append(dst, l.Lost...)
	dst = append(dst, " events at "...)
	dst = append(dst, l.Stage...)
	dst = append(dst, ": "...)
	return append(dst, l.Reason...)
}
