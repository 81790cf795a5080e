// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Reasons why a Tracer cannot be opened or a sandbox not be watched, for errors.Is. The messages say what
// to do about it.
var (
	// ErrNoPermission: the kernel refuses to load BPF programs for this process.
	ErrNoPermission = errors.New("not permitted to load BPF programs: run as root, " +
		"or with the capabilities CAP_BPF, CAP_PERFMON, CAP_SYS_RESOURCE, CAP_NET_ADMIN and CAP_DAC_READ_SEARCH")
	// ErrNoBTF: the kernel does not describe its types.
	ErrNoBTF = errors.New("the kernel has no type information (/sys/kernel/btf/vmlinux): " +
		"use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of all current distributions are")
	// ErrNoCgroup2: sandboxes are told apart by cgroup2 cgroups, and there are none.
	ErrNoCgroup2 = errors.New("cgroup2 is not mounted: " +
		"mount it beside the old hierarchies with `mount -t cgroup2 none /sys/fs/cgroup/unified`")
	// ErrFull: there are as many watched cgroups as Config.MaxSandboxes allows.
	ErrFull = errors.New("no room for another watched cgroup: raise the bound of sandboxes")
	// ErrClosed: the Tracer was closed.
	ErrClosed = errors.New("the tracer is closed")
)

// btfPath is where the kernel describes its types.
const btfPath = "/sys/kernel/btf/vmlinux"

// checkKernel looks for what no error of the loader would name well.
func checkKernel() error {
	if _, err := os.Stat(btfPath); errors.Is(err, fs.ErrNotExist) {
		return ErrNoBTF
	}
	return nil
}

// explain adds the reason that a person can do something about to an error of the kernel. EACCES alone is
// no sign: the verifier answers with it too.
func explain(err error) error {
	if err == nil || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return err
	}
	const needed = 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON
	held, capErr := effectiveCapabilities()
	if capErr != nil || held&needed == needed || held&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return err
	}
	return fmt.Errorf("%w (%w)", ErrNoPermission, err)
}
