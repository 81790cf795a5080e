# SPDX-License-Identifier: Apache-2.0
# A test suite that starts programs without a pause, from its beginning to its end.
# like: burst
# detectors: {baselines: {window: 1s, warmup: 3}}
call c1 'end=$((SECONDS + 8)); while [ $SECONDS -lt $end ]; do for i in $(seq 50); do /bin/true; done; sleep 0.2; done'
