// SPDX-License-Identifier: Apache-2.0

// Package testenv says whether this machine can run a test, and why not.
//
// It owns the rule that a skip cannot rot: where WATCHGLASS_REQUIRE_EBPF=1 promises a machine that can
// run kernel tests, as CI does, being unable to is a failure. It must not hide a test's own failure.
package testenv

import (
	"os"
	"testing"
)

// The variables that say what a run of the tests promises or asks for.
const (
	requireEBPF = "WATCHGLASS_REQUIRE_EBPF"
	runE2E      = "WATCHGLASS_E2E"
	ownTracers  = "WATCHGLASS_OWN_TRACERS"
)

// RequireRoot skips the test unless it runs as root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Unable(t, "needs root")
	}
}

// RequireEBPF skips the test unless this machine can load CO-RE programs: root, and a kernel with BTF.
// What else a kernel lacks is for the test to find out: it then calls Unable with the feature's name.
func RequireEBPF(t testing.TB) {
	t.Helper()
	RequireRoot(t)
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		Unable(t, "needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF): "+err.Error())
	}
}

// E2E skips the test unless the run asked for the end-to-end level: it installs real agents and servers.
func E2E(t testing.TB) {
	t.Helper()
	if os.Getenv(runE2E) != "1" {
		t.Skip("end-to-end: set " + runE2E + "=1, or run make test-e2e")
	}
}

// OwnTracer skips the test where the run leaves out those that open a tracer of their own, since opening one takes long there:
// in an emulated machine, for which tests that share one are enough.
func OwnTracer(t testing.TB) {
	t.Helper()
	if os.Getenv(ownTracers) == "0" {
		t.Skip("opens a tracer of its own, and " + ownTracers + "=0")
	}
}

// Unable skips the test for a reason that lies in the machine, or fails it where the run promised that
// the machine is able.
func Unable(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv(requireEBPF) == "1" {
		t.Fatal(reason + " (and " + requireEBPF + "=1 promises it)")
	}
	t.Skip(reason)
}
