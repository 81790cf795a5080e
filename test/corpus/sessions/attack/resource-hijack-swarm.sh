# SPDX-License-Identifier: Apache-2.0
# Many short processes, none of which uses much, keep a processor busy together, also on a machine that is busy.
# finds: resource-hijack
# over: resource-hijack
# tells: has kept
# detectors: {saturation_floor: 5s}
# takes: 25s
mkdir -p ~/bin; cp /bin/bash ~/bin/kworker
call c1 'end=$((SECONDS + 18)); while [ $SECONDS -lt $end ]; do for i in {1..16}; do timeout 1 ~/bin/kworker -c "while :; do :; done" & done; wait; done; sleep 5'
