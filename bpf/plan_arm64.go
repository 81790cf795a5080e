// SPDX-License-Identifier: Apache-2.0

package bpf

// hasX32 is whether there is the calling convention x32.
const hasX32 = false

// hangsSince is the Linux from which on programs can hang on kernel functions.
const hangsSince = "6.4"

// entryPrefixes is what stands before a call's name in those of the functions that it enters by, that of 64-bit callers
// first.
func entryPrefixes() []string {
	return []string{"__arm64_sys_", "__arm64_compat_sys_"}
}

// ownEntryNames is the names of entries that calls have on arm64 alone.
func ownEntryNames() map[string][]string {
	return map[string][]string{
		"mmap2": {"aarch32_mmap2"},
		// 64-bit programs have one of the architecture's own.
		"personality": {"personality", "arm64_personality"},
	}
}

// legacyOpens is the calls that open files and that only amd64 has.
func legacyOpens() []proof { return nil }

// legacyCalls is the calls that only amd64 has, by the function that does their work.
func legacyCalls() map[string][]proof { return nil }
