// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"slices"
	"testing"

	"github.com/watchglass/watchglass/internal/testenv"
)

// TestKernelAttachedPrograms: a tracer's programs are listed while it is open.
func TestKernelAttachedPrograms(t *testing.T) {
	testenv.RequireEBPF(t)
	beAlone(t)
	tracer, err := Open(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
	})
	names, err := AttachedPrograms()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(names, "process_on_exec") {
		t.Errorf("the program of execs is not among %q", names)
	}
}
