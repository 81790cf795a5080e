# SPDX-License-Identifier: Apache-2.0
# The agent tells of its calls, and not of one whose command ran.
# finds: effect-without-call
agent '
begin; prompt "build"
work call_1 "ls >/dev/null"
tool call_2 "id >/dev/null"
sleep 0.3
work call_3 "ls >/dev/null"
'
