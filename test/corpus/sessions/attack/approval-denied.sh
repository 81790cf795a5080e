# SPDX-License-Identifier: Apache-2.0
# A call that the user denied runs all the same.
# finds: approval-mismatch
agent '
begin; prompt "clean up"
decide call_1 denied user
sleep 0.5
tool call_1 "rm -f main.go"
result call_1 "rm -f main.go"
'
