# SPDX-License-Identifier: Apache-2.0
# After five sessions of the same work, a destination that none of them had is asked by the clock.
# learns: 5
# needs: curl
# finds: baselines-agree first-seen beaconing
# takes: 40s
# waits: true
call c1 'ls >/dev/null; curl -s http://203.0.113.11/install.sh >/dev/null'
if [ -z "${REHEARSAL:-}" ]; then
	call c2 'for i in $(seq 13); do curl -s http://203.0.113.10/ >/dev/null; sleep 2; done'
fi
