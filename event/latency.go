// SPDX-License-Identifier: Apache-2.0

package event

import (
	"math"
	"strconv"
	"time"
)

// LatencyBuckets is how many buckets a Latency has: each but the last goes up to a power of two of a second, twice
// that of the one before. They are those of an exponential histogram of scale 0.
const LatencyBuckets = 28

// LatencyScale is the exponent of the first one's bound: 2^-22 s, 238 ns.
const LatencyScale = -22

// AllCalls is the name of a Latency of all calls together.
const AllCalls = "_all"

// Latency is how long calls of one name took: Sum is all of them together.
type Latency struct {
	Name    string
	Sum     time.Duration
	Buckets [LatencyBuckets]int64
}

// LatencyBound is up to which duration a bucket goes, in seconds: infinite for the last.
func LatencyBound(bucket int) float64 {
	if bucket >= LatencyBuckets-1 {
		return math.Inf(1)
	}
	return math.Ldexp(1, bucket+LatencyScale)
}

// Count is how many calls it is of.
func (l *Latency) Count() (n int64) {
	for _, b := range l.Buckets {
		n += b
	}
	return n
}

// Since is what came on top of an earlier state of the same, never less than nothing.
func (l *Latency) Since(before *Latency) Latency {
	grown := Latency{Name: l.Name, Sum: max(0, l.Sum-before.Sum)}
	for i := range l.Buckets {
		grown.Buckets[i] = max(0, l.Buckets[i]-before.Buckets[i])
	}
	return grown
}

// Latencies is how long calls took, by name. What is told of it is made once, since each exporter asks.
type Latencies struct {
	// ByName is of each name, those first that took longest together.
	ByName []Latency
	// times is how long the calls of each name took together, in nanoseconds; counts how many of them took how long;
	// untimed how many calls are of unknown duration.
	times, counts []Count
	untimed       int64
}

// NewLatencies is how long some of so many calls took, by name: nil where that is known of none.
func NewLatencies(byName []Latency, calls int64) *Latencies {
	if len(byName) == 0 {
		return nil
	}
	l := &Latencies{ByName: byName, untimed: calls}
	for i := range byName {
		of := &byName[i]
		l.times = append(l.times, Count{Name: of.Name, N: int64(of.Sum)})
		for bucket, n := range of.Buckets {
			if n > 0 {
				l.counts = append(l.counts, Count{Name: of.Name + " " + boundName(bucket), N: n})
			}
		}
		l.untimed -= of.Count()
	}
	return l
}

// AppendAttributes appends what is told of it; nothing of nil.
func (l *Latencies) AppendAttributes(dst []Attribute) []Attribute {
	if l == nil {
		return dst
	}
	dst = append(dst, Attribute{SyscallTime, Counts(l.times)}, Attribute{SyscallLatencies, Counts(l.counts)})
	if l.untimed > 0 {
		dst = append(dst, Attribute{SyscallUntimed, Int(l.untimed)})
	}
	return dst
}

// boundName is a bucket's bound in nanoseconds.
func boundName(bucket int) string {
	bound := LatencyBound(bucket)
	if math.IsInf(bound, 1) {
		return "+Inf"
	}
	return strconv.FormatInt(int64(math.Round(bound*float64(time.Second))), 10)
}

// SumOf is the sum of counts.
func SumOf(counts []Count) (n int64) {
	for _, c := range counts {
		n += c.N
	}
	return n
}
