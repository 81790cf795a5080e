// SPDX-License-Identifier: Apache-2.0

package event

import "time"

// JournalStats is the state of the journal.
type JournalStats struct {
	// Dir is its folder; "" when there is no journal.
	Dir   string
	Lanes []LaneStats
	// Cursors is the state of each destination's cursor.
	Cursors []CursorStats
	// SyncErrors is how often what was written could not be forced to the disk, Checkpoints how often it was signed.
	SyncErrors, Checkpoints uint64
	// Quarantined is how many rejected events were put aside.
	Quarantined uint64
}

// LaneStats is one of the journal's lanes: priority or events.
type LaneStats struct {
	Name string
	// Bytes is what it takes on the disk, of at most MaxBytes, in so many Segments.
	Bytes, MaxBytes int64
	Segments        int
	// First is the number of its oldest record, Next that of the next one, Evicted how many were removed for lack of room.
	First, Next, Evicted uint64
}

// CursorStats is how far a destination has come in the journal.
type CursorStats struct {
	Name string
	// Lag is how many events wait for it, LagBytes about how much of the journal these are, LagAge for how
	// long the oldest of them has waited.
	Lag      uint64
	LagBytes int64
	LagAge   time.Duration
	// Evicted is how many it did not get before they were removed, Damaged how many the disk did not give back.
	Evicted, Damaged uint64
}

// DestinationStats is the state of one destination.
type DestinationStats struct {
	Name string
	// Delivered is how many events it took, Rejected how many it refused for good, Filtered how many are not for it.
	Delivered, Rejected, Filtered uint64
}
