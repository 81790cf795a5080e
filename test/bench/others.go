// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/watchglass/watchglass/bpf"
)

// alone refuses to measure beside programs of others on the hooks that are measured: a collector that runs, or what a killed one left
// pinned. All that is measured, what is called without a collector too, would pay for them.
func alone() error {
	names, err := bpf.AttachedPrograms()
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("something else hangs on hooks of the kernel and would be measured too (%s): stop it; "+
			"`watchglass check` lists what a killed collector left", strings.Join(names, ", "))
	}
	return nil
}
