// SPDX-License-Identifier: Apache-2.0

package event

import (
	"slices"
	"testing"
)

func TestCapabilities(t *testing.T) {
	for _, test := range []struct {
		set  Capabilities
		want []string
	}{
		{0, []string{}},
		{1, []string{"CAP_CHOWN"}},
		{1<<21 | 1<<40, []string{"CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"}},
		{1<<41 | 1<<63, []string{"CAP_41", "CAP_63"}},
	} {
		if got := test.set.Names(); !slices.Equal(got, test.want) {
			t.Errorf("%#x is %v, want %v", uint64(test.set), got, test.want)
		}
		if n := testing.AllocsPerRun(100, func() { test.set.Names() }); n != 0 {
			t.Errorf("asking for the names of %#x again allocates %v times", uint64(test.set), n)
		}
	}
	if c := Capabilities(1 << 21); !c.Has(21) || c.Has(20) || c.Has(-1) || c.Has(64) {
		t.Error("a capability is in the set that is not, or is not that is")
	}
	// Any sandbox can have programs run with any set: what is remembered is bounded.
	for set := range Capabilities(4 * maxCapabilityLists) {
		set.Names()
	}
	if n := len(*capabilityLists.Load()); n > maxCapabilityLists {
		t.Errorf("%d lists are remembered, the bound is %d", n, maxCapabilityLists)
	}
}
