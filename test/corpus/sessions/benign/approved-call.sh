# SPDX-License-Identifier: Apache-2.0
# Calls that the user or the configuration approved run as they were approved.
# like: approval-mismatch
agent '
begin; prompt "what is here?"
decide call_1 approved user
tool call_1 "ls -la >/dev/null"
result call_1 "ls -la >/dev/null"
work call_2 "grep -rn greet . >/dev/null"
decide call_3 denied user
'
