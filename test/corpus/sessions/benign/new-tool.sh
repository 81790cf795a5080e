# SPDX-License-Identifier: Apache-2.0
# The sixth session uses a tool that the others did not: new, and nothing else.
# like: first-seen baselines-agree
# learns: 5
# needs: curl
# takes: 25s
call c1 'ls >/dev/null; curl -s http://203.0.113.11/install.sh >/dev/null'
if [ -z "${REHEARSAL:-}" ]; then
	call c2 'tr a-z A-Z <main.go >/dev/null; curl -s http://203.0.113.11/install.py >/dev/null'
fi
