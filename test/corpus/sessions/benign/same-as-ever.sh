# SPDX-License-Identifier: Apache-2.0
# The sixth session of the same work, which uses what the others did.
# like: first-seen burst
# learns: 5
# needs: curl
# takes: 25s
call c1 'ls >/dev/null; git status >/dev/null; curl -s http://203.0.113.11/install.sh >/dev/null'
