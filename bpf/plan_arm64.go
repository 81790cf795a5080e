// SPDX-License-Identifier: Apache-2.0

package bpf

// hasX32 is whether there is the calling convention x32.
const hasX32 = false

// entryPrefixes is what stands before a call's name in those of the functions that it enters by, that of 64-bit callers
// first.
func entryPrefixes() []string {
	return []string{"__arm64_sys_", "__arm64_compat_sys_"}
}

// entryNames is the names of a call in those of its entries, where they are not the call's own.
func entryNames(call string) []string {
	switch call {
	case "umount2":
		return []string{"umount"}
	case "clock_settime":
		return []string{"clock_settime", "clock_settime32"}
	case "clock_settime64":
		return []string{"clock_settime"}
	case "mmap2":
		return []string{"aarch32_mmap2"}
	}
	for _, wide := range wideIdentities() {
		switch call {
		case wide:
			return []string{wide, wide + "16"}
		case wide + "32":
			return []string{wide}
		}
	}
	return []string{call}
}

// legacyOpens is the calls that open files and that only amd64 has.
func legacyOpens() []proof { return nil }

// legacyCalls is the calls that only amd64 has, by the function that does their work.
func legacyCalls() map[string][]proof { return nil }
