// SPDX-License-Identifier: Apache-2.0

package event

import "time"

// KindGap is a while in which the collector itself did not run.
const KindGap Kind = "watchglass.telemetry.gap"

// Gap says that the collector did not run for a while: it was stopped by a signal, frozen, or got no processor. What
// happened meanwhile waited in the kernel, and what found no room there is told as a loss.
type Gap struct {
	// Duration is for how long, by a clock that does not run while the machine sleeps. It ends at the event's time.
	Duration time.Duration
	// Expected is how often the collector looks.
	Expected time.Duration
	// Waited is for how long of it a thread of the collector's could have run and got no processor; 0 where the kernel does
	// not tell. One that is stopped waits for nothing.
	Waited time.Duration
}

// Kind implements Payload.
func (*Gap) Kind() Kind { return KindGap }

// Severity implements Payload.
func (*Gap) Severity() Severity { return SeverityWarn }

// AppendAttributes implements Payload.
func (g *Gap) AppendAttributes(dst []Attribute) []Attribute {
	return append(dst,
		Attribute{GapDuration, Seconds(g.Duration)},
		Attribute{GapExpected, Seconds(g.Expected)},
		Attribute{GapWaited, Seconds(g.Waited)})
}

// AppendBody implements Payload.
func (g *Gap) AppendBody(dst []byte) []byte {
	dst = append(dst, "the collector did not run for "...)
	return append(dst, g.Duration.Round(time.Second).String()...)
}
