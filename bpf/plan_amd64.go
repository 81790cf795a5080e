// SPDX-License-Identifier: Apache-2.0

package bpf

import "golang.org/x/sys/unix"

// hasX32 is whether there is the calling convention x32.
const hasX32 = true

// hangsSince is the Linux from which on programs can hang on kernel functions.
const hangsSince = "5.5"

// entryPrefixes is what stands before a call's name in those of the functions that it enters by, that of 64-bit callers
// first.
func entryPrefixes() []string {
	return []string{"__x64_sys_", "__ia32_sys_", "__ia32_compat_sys_", "__x64_compat_sys_"}
}

// ownEntryNames is the names of entries that calls have on amd64 alone.
func ownEntryNames() map[string][]string {
	return map[string][]string{
		"umount": {"oldumount"},
		"mmap":   {"mmap", "ia32_mmap"},
		"mmap2":  {"mmap_pgoff"},
		"stime":  {"stime", "stime32"},
	}
}

// legacyOpens is the calls that open files and that only amd64 has.
func legacyOpens() []proof {
	return []proof{{number: unix.SYS_OPEN}, {number: unix.SYS_CREAT}}
}

// legacyCalls is the calls that only amd64 has, by the function that does their work.
func legacyCalls() map[string][]proof {
	return map[string][]proof{
		"do_unlinkat":  {{number: unix.SYS_UNLINK}},
		"do_rmdir":     {{number: unix.SYS_RMDIR}},
		"do_renameat2": {{number: unix.SYS_RENAME}},
		"do_mkdirat":   {{number: unix.SYS_MKDIR}},
		"do_mknodat":   {{number: unix.SYS_MKNOD}},
		"do_symlinkat": {{number: unix.SYS_SYMLINK}},
		"do_linkat":    {{number: unix.SYS_LINK}},
		"do_fchmodat":  {{number: unix.SYS_CHMOD}},
		"do_fchownat":  {{number: unix.SYS_CHOWN}, {number: unix.SYS_LCHOWN}},
	}
}
