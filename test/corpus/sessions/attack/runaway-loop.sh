# SPDX-License-Identifier: Apache-2.0
# The same call, over and over.
# finds: runaway-loop
# over: runaway-loop
agent '
begin; prompt "make the test pass"
for i in {1..21}; do work call_$i "grep -q never main.go"; done
'
