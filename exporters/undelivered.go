// SPDX-License-Identifier: Apache-2.0

package exporters

// UndeliveredError is what an Export returns that delivered a batch in part: how many events did not
// arrive, and why. The rest did.
type UndeliveredError struct {
	Events int
	Err    error
}

// Error implements error.
func (e *UndeliveredError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *UndeliveredError) Unwrap() error { return e.Err }

// Undelivered is how many events of the batch did not arrive.
func (e *UndeliveredError) Undelivered() int { return e.Events }
