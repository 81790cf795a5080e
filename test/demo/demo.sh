#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# `make demo`: a scripted agent at work in a sandbox (bubblewrap), watched. Everything stays on loopback
# and below one temporary directory, which it keeps for you to look at.
set -euo pipefail
cd "$(dirname "$0")/../.."
watchglass=$PWD/bin/watchglass
here=$PWD/test/demo

if ((EUID != 0)); then
	echo "the demo needs root: it loads BPF programs and makes a cgroup" >&2
	exit 1
fi
"$watchglass" check >/dev/null || { "$watchglass" check; exit 1; }

out=$(mktemp -d "${TMPDIR:-/tmp}/watchglass-demo.XXXXXX")
helpers=()
cleanup() {
	for pid in "${helpers[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
}
trap cleanup EXIT

# The world: loopback servers, a repository with a bug, a home with a secret in it.
go build -trimpath -o "$out/services" ./test/demo/services
"$out/services" -ports "$out/ports" -helper "$(readlink -f "$(type -P true)")" &
helpers+=($!)
until [[ -s $out/ports ]]; do sleep 0.05; done
# shellcheck source=/dev/null
source "$out/ports"
home=$out/home
mkdir -p "$home/.aws" "$home/origin" "$home/.cache/go-build"
printf '[default]\naws_access_key_id = AKIAEXAMPLEEXAMPLE00\naws_secret_access_key = not-a-real-secret\n' >"$home/.aws/credentials"
cp -r "$here/project/." "$home/origin/"
mv "$home/origin/main.go.txt" "$home/origin/main.go"
mv "$home/origin/go.mod.txt" "$home/origin/go.mod"
git -C "$home/origin" init --quiet --initial-branch main
git -C "$home/origin" add .
git -C "$home/origin" -c user.name=demo -c user.email=demo@localhost commit --quiet -m "A greeting"

cat >"$out/config.yaml" <<EOF
policy:
  network:
    # What this session may reach: the registry. The drop box is not on the list.
    allow: ["$REGISTRY", "$CLOSED"]
EOF

# The sandbox: read-only root, its own /tmp, /home, processes and IPC, no capabilities. The Go build
# cache is the machine's, so that the demo does not compile the standard library.
sandbox=(bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --tmpfs /home
	--bind "$home" /home/agent --bind "$(go env GOCACHE)" /home/agent/.cache/go-build
	--ro-bind "$here/agent.sh" /tmp/agent.sh
	--unshare-pid --unshare-ipc --unshare-uts --cap-drop ALL --die-with-parent --chdir /home/agent)
if ! bwrap --ro-bind / / --dev /dev --proc /proc --unshare-pid true 2>/dev/null; then
	echo "bubblewrap does not work here: the agent runs in its cgroup, but sees the machine's files"
	cp "$here/agent.sh" "$home/agent.sh"
	sandbox=(env "HOME=$home")
	agent=$home/agent.sh
else
	sandbox+=(--setenv HOME /home/agent)
	agent=/tmp/agent.sh
fi

metrics=127.0.0.1:$((20000 + $$ % 20000))
echo "=== the session, live"
env REGISTRY="$REGISTRY" DROPBOX="$DROPBOX" CLOSED="$CLOSED" GOFLAGS=-buildvcs=false GOTOOLCHAIN=local \
	GIT_AUTHOR_NAME=agent GIT_AUTHOR_EMAIL=agent@localhost GIT_COMMITTER_NAME=agent GIT_COMMITTER_EMAIL=agent@localhost \
	"$watchglass" run --name demo --live --config "$out/config.yaml" --json "$out/events.jsonl" \
	--timeline "$out/timeline.txt" --summary "$out/summary.txt" --metrics "$metrics" -- \
	"${sandbox[@]}" bash "$agent" &
session=$!
helpers+=("$session")
# The metrics are there while the session is: keep the last that were.
while kill -0 "$session" 2>/dev/null; do
	curl --silent --fail "http://$metrics/metrics" -o "$out/metrics.new" && mv "$out/metrics.new" "$out/metrics.txt"
	sleep 0.2
done
code=0
wait "$session" || code=$?

echo
echo "=== the session, summed up"
cat "$out/summary.txt"
cat <<EOF

=== files, in $out
  events.jsonl   every event, one JSON object a line
  timeline.txt   what you saw above
  summary.txt    the summary
  metrics.txt    the Prometheus metrics, as scraped from http://$metrics/metrics while the session ran
EOF
exit "$code"
