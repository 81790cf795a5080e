// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"math/rand/v2"
	"time"
)

// verdict is what a failed attempt says of the next one.
type verdict uint8

const (
	// later is what the OTLP specification calls retryable, and every connection that breaks.
	later verdict = iota
	// blocked is no fault of the data: credentials, a path, a certificate, a compression that the server does not
	// take. The specification does not call it retryable, which keeps a client from hammering; but to throw the
	// data away because a token ran out would be worse. It is tried again, at the longest pause.
	blocked
	// refused blames the data.
	refused
	// tooLarge blames its size.
	tooLarge
	// unclear is a failure for good that does not say whose fault it is: HTTP 500, INTERNAL.
	unclear
)

// attemptError is one failed attempt.
type attemptError struct {
	err     error
	verdict verdict
	// after is how long the server wants to wait; 0 when it did not say.
	after time.Duration
}

func (e *attemptError) Error() string { return e.err.Error() }
func (e *attemptError) Unwrap() error { return e.err }

// pauses is the time between attempts: exponential, with full jitter, so that the collectors of a fleet that
// lost the same backend do not come back to it at the same moment.
type pauses struct {
	retry Retry
	limit time.Duration // of the next one
}

// next is how long to wait after that failure.
func (p *pauses) next(failed *attemptError) time.Duration {
	if p.limit == 0 {
		p.limit = p.retry.Initial
	}
	limit := p.limit
	p.limit = min(2*p.limit, p.retry.Max)
	switch {
	case failed.after > 0:
		return failed.after + jitter(failed.after/10) // the server's word, and never before
	case failed.verdict == later:
		return jitter(limit)
	default:
		return p.retry.Max/2 + jitter(p.retry.Max/2)
	}
}

// jitter is up to d, and never nothing.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return 1 + rand.N(d) //nolint:gosec // it has to be uneven, not secret
}
