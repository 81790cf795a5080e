# SPDX-License-Identifier: Apache-2.0
# A job in the background asks for orders every two seconds.
# needs: curl
# finds: beaconing off-policy-connect
# takes: 20s
# waits: true
call c1 'for i in $(seq 13); do curl -s http://203.0.113.10/ >/dev/null; sleep 2; done'
