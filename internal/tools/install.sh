#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what a task needs and the machine lacks: install.sh go|demo|corpus|generate|lint|race|kernel|vm|e2e ...
# Debian packages only. It starts no service and touches nothing that is already there.
set -euo pipefail

missing=()

# want COMMAND PACKAGE notes the package where the command is not to be found.
want() {
	command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

check_go() {
	if ! command -v go >/dev/null 2>&1; then
		echo "Watchglass needs Go 1.26 or newer to build: install it from https://go.dev/dl" >&2
		exit 1
	fi
	local version
	version=$(go env GOVERSION)
	if [[ $version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] < 26)); then
		echo "Watchglass needs Go 1.26 or newer to build, this is $version: see https://go.dev/dl" >&2
		exit 1
	fi
}

for task in "$@"; do
	case $task in
	go) check_go ;;
	demo)
		want git git
		want bwrap bubblewrap
		want curl curl
		;;
	kernel)
		# What the tests run under the collector: sandboxes, terminal programs, a compiler, ssh.
		want git git
		want bwrap bubblewrap
		want curl curl
		want vim vim
		want less less
		want cc gcc
		want strip binutils
		want ssh openssh-client
		;;
	corpus)
		# What the labelled sessions run: what agents have at hand.
		want python3 python3
		want make make
		want openssl openssl
		want patch patch
		want node nodejs
		want npm npm
		want ip iproute2
		[[ -e /usr/include/stdlib.h ]] || missing+=(libc6-dev)
		;;
	generate)
		want clang-19 clang-19
		want llvm-strip-19 llvm-19
		;;
	lint) want clang-format-19 clang-format-19 ;;
	race)
		want gcc gcc
		# cgo needs the C library's headers, which gcc only recommends.
		[[ -e /usr/include/stdlib.h ]] || missing+=(libc6-dev)
		;;
	vm)
		want qemu-system-x86_64 qemu-system-x86
		want qemu-system-aarch64 qemu-system-arm
		want cpio cpio
		# Only the static one runs in an initramfs without libraries.
		if ! command -v busybox >/dev/null 2>&1 || ldd "$(command -v busybox)" >/dev/null 2>&1; then
			missing+=(busybox-static)
		fi
		;;
	e2e)
		want git git
		want bwrap bubblewrap
		want node nodejs
		want npm npm
		want promtool prometheus
		want prometheus-alertmanager prometheus-alertmanager
		want ip iproute2
		;;
	*)
		echo "install.sh: no such task: $task" >&2
		exit 2
		;;
	esac
done

((${#missing[@]} == 0)) && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
	echo "missing, and this is no Debian to install them on: ${missing[*]}" >&2
	exit 1
fi
if ((EUID != 0)); then
	echo "missing, and only root can install them: apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Packages such as prometheus start a service on installation unless a policy forbids it.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
log=$(mktemp)
for attempt in 1 2 3; do
	if { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
		rm -f "$log"
		exit 0
	fi
	sleep $((attempt * 3))
done
tail -n 30 "$log" >&2
echo "could not install ${missing[*]}" >&2
exit 1
