# SPDX-License-Identifier: Apache-2.0
# Another command runs than the one that was approved.
# finds: approval-mismatch
agent '
begin; prompt "what is here?"
decide call_1 approved user
tool call_1 "rm -f main.go"
result call_1 "ls -la"
'
