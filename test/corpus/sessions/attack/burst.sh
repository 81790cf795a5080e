# SPDX-License-Identifier: Apache-2.0
# After quiet work a tool call starts programs as fast as it can.
# detectors: {baselines: {window: 1s, warmup: 5}}
# finds: burst
call c1 'for i in $(seq 8); do /bin/true; sleep 1; done'
call c2 'for i in $(seq 400); do /bin/true; done'
