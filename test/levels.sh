#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every level of tests that this machine can and says of each other why not. A level that fails
# does not keep the next from running; the exit code is that of all together.
#
# WATCHGLASS_REQUIRE_EBPF=1 makes a level that cannot run a failure: CI promises a machine that can.
set -uo pipefail
cd "$(dirname "$0")/.."

required=${WATCHGLASS_REQUIRE_EBPF:-0}
verdicts=()
failed=0

# level NAME PREREQUISITES COMMAND... runs a level; PREREQUISITES are tasks of internal/tools/install.sh.
level() {
	local name=$1 needs=$2 start=$SECONDS
	shift 2
	echo "=== $name: $*"
	# shellcheck disable=SC2086 # a list of words
	if [[ -n $needs ]] && ! internal/tools/install.sh $needs; then
		cannot "$name" "what it needs could not be installed (see above)"
		return
	fi
	if "$@"; then
		verdicts+=("$name: ok ($((SECONDS - start)) s)")
	else
		verdicts+=("$name: FAILED ($((SECONDS - start)) s)")
		failed=1
	fi
}

# cannot NAME REASON notes a level that this machine cannot run.
cannot() {
	if [[ $required == 1 ]]; then
		verdicts+=("$1: FAILED: $2, and WATCHGLASS_REQUIRE_EBPF=1 promises it")
		failed=1
	else
		verdicts+=("$1: not run: $2")
	fi
}

internal/tools/install.sh go || exit 1
level unit race make --no-print-directory test-unit
if ((EUID != 0)); then
	cannot kernel "needs root to load BPF programs"
	cannot e2e "needs root to load BPF programs"
elif [[ ! -e /sys/kernel/btf/vmlinux ]]; then
	cannot kernel "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"
	cannot e2e "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"
else
	level kernel "race kernel corpus" make --no-print-directory test-kernel
	level e2e "e2e" make --no-print-directory test-e2e
fi
if [[ $(uname -m) != x86_64 ]]; then
	cannot vm "the kernels are for x86_64"
elif ! command -v apt-get >/dev/null 2>&1; then
	cannot vm "the kernels are Debian's, and this is no Debian"
else
	level vm "vm" make --no-print-directory test-vm
fi

echo
echo "=== levels"
printf '%s\n' "${verdicts[@]}"
exit "$failed"
