#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# fuzz.sh TIME [PACKAGE...] runs every fuzz target for TIME, as many at once as there are processors, each with one
# worker. The packages are built once each: go test would link one of them anew for every target, which takes longer
# than TIME.
set -euo pipefail
cd "$(dirname "$0")/.."
export FUZZTIME=$1
(($# > 1)) || set -- "$1" ./...
# go test keeps what it finds of interest there too.
FUZZCACHE=$(go env GOCACHE)/fuzz
FUZZBIN=$(mktemp -d)
export FUZZCACHE FUZZBIN
trap 'rm -rf "$FUZZBIN"' EXIT

# fuzz DIRECTORY PACKAGE BINARY TARGET runs one target, and says at its end what became of it.
fuzz() {
	local out code=0
	cd "$1"
	# Rather fuzz than minimise: of large inputs that took nearly all of the time.
	out=$("$3" -test.run '^$' -test.fuzz "^$4\$" -test.fuzztime "$FUZZTIME" -test.fuzzminimizetime 10x \
		-test.parallel 1 -test.fuzzcachedir "$FUZZCACHE/$2" 2>&1) || code=$?
	# Where its time is over at an unlucky moment, that is reported as a failure (until Go 1.27, golang.org/issue/75804):
	# without an input that fails it is none.
	[[ $out == *"context deadline exceeded"* && $out != *"Failing input"* && $out != *panic* ]] && code=0 out="no input fails"
	echo "fuzz $2 $4"
	((code == 0)) && tail -n 2 <<<"$out" || echo "$out"
	return "$code"
}
export -f fuzz

targets=$FUZZBIN/targets
go list -f '{{.Dir}} {{.ImportPath}}' "${@:2}" | while read -r dir package; do
	grep -qs '^func Fuzz' "$dir"/*_test.go || continue
	binary=$FUZZBIN/${package//\//-}.test
	go test -c -fuzz . -o "$binary" "$package"
	(cd "$dir" && "$binary" -test.list '^Fuzz') | grep '^Fuzz' | sed "s|^|$dir $package $binary |"
done >"$targets"
xargs -P "$(nproc)" -L 1 bash -c 'fuzz "$@"' fuzz <"$targets"
