# SPDX-License-Identifier: Apache-2.0
# A dev server on loopback and an allowed registry are asked once a second, to see when something is there.
# like: beaconing
# needs: python3 curl
# takes: 20s
# waits: true
call c1 'python3 -m http.server 8124 --bind 127.0.0.1 >/dev/null 2>&1 & s=$!; for i in $(seq 13); do curl -s http://127.0.0.1:8124/ >/dev/null || true; curl -s http://203.0.113.11/install.sh >/dev/null; sleep 1; done; kill $s'
