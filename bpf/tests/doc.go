// SPDX-License-Identifier: Apache-2.0

// Package tests runs the helpers of bpf/lib in the kernel, one at a time, and holds their results
// against what user space knows to be true.
//
// It owns the programs that wrap a helper. It must not test a probe: that is done where the probe is.
package tests
