# SPDX-License-Identifier: Apache-2.0
# A dev server on loopback, polled until it answers.
# like: listens-beyond
# needs: python3 curl
call c1 'python3 -m http.server 8123 --bind 127.0.0.1 >/dev/null 2>&1 & s=$!; for i in $(seq 20); do curl -sf http://127.0.0.1:8123/ >/dev/null && break; sleep 0.1; done; for i in $(seq 10); do curl -s http://127.0.0.1:8123/ >/dev/null; done; kill $s'
