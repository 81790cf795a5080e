// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"errors"
	"fmt"
	"testing"
)

type partly int

func (p partly) Error() string    { return "some were refused" }
func (p partly) Undelivered() int { return int(p) }

// TestUndelivered: an exporter may say how much of a batch failed, and cannot make the account go wrong.
func TestUndelivered(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want int
	}{
		{errors.New("refused"), 10},
		{partly(3), 3},
		{fmt.Errorf("send: %w", partly(3)), 3},
		{partly(-1), 0},
		{partly(11), 10},
	} {
		if got := undelivered(test.err, 10); got != test.want {
			t.Errorf("%v: %d of 10 undelivered, want %d", test.err, got, test.want)
		}
	}
}
