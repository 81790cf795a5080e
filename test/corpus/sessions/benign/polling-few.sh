# SPDX-License-Identifier: Apache-2.0
# A dev server is asked a few times until it answers.
# like: runaway-loop
agent '
begin; prompt "start the server"
for i in {1..8}; do work call_$i "test -e server.ready"; done
'
