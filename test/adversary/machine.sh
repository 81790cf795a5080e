#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes what an emulated machine needs for the attempts: machine.sh DIRECTORY, which is for test/vm's -tree. It holds what the
# test builds elsewhere, in /adversary (WATCHGLASS_ADVERSARY_TOOLS), and the programs that attempts start, which are this
# machine's, with the libraries and modules that they need: busybox's would make other system calls, and be one file.
set -euo pipefail
cd "$(dirname "$0")/../.."

if (($# != 1)) || [[ -e $1 ]]; then
	echo "usage: machine.sh DIRECTORY, which must not exist" >&2
	exit 2
fi
root=$1
mkdir -p "$root"/{adversary,bin}

CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$root/adversary/watchglass" ./cmd/watchglass
cc -O1 -static -pthread -o "$root/adversary/evade" test/corpus/tools/evade.c
cc -shared -fPIC -o "$root/adversary/preload.so" test/adversary/tools/preload.c

# libraries FILE... puts what the files are linked with where the loader looks for it.
libraries() {
	ldd "$@" | awk '$2 == "=>" && $3 ~ "^/" {print $3} $1 ~ "^/.*[^:]$" {print $1}' | sort -u | while read -r library; do
		mkdir -p "$root$(dirname "$library")"
		cp -L "$library" "$root$library"
	done
}

for command in bash sh awk cat chmod cp echo head ln mkdir mount mv rmdir sed seq sleep stat touch true unshare; do
	program=$(type -P "$command") || { echo "machine.sh: no $command here" >&2; exit 1; }
	cp -L "$program" "$root/bin/$command"
done
libraries "$root"/bin/*

# Of Python's modules those that the attempts import, and what these import in turn.
python=/usr/bin/python3
cp -L "$python" "$root/bin/python3"
libraries "$root/bin/python3"
mapfile -t modules < <("$python" -I - <<'END'
import ctypes, os, random, signal, socket, ssl, struct, sys, time
# A TLS handshake begins with a name, which these encode.
ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="a.example")
for module in list(sys.modules.values()):
    for file in getattr(module, "__file__", None), getattr(module, "__cached__", None):
        if file and os.path.exists(file):
            print(file)
END
)
for module in "${modules[@]}"; do
	mkdir -p "$root$(dirname "$module")"
	cp -L "$module" "$root$module"
done
extensions=()
for module in "${modules[@]}"; do
	[[ $module != *.so ]] || extensions+=("$module")
done
libraries "${extensions[@]}"
