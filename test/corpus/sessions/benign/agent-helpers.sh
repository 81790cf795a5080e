# SPDX-License-Identifier: Apache-2.0
# The agent runs helpers of its own, for no call.
# like: effect-without-call claims-stopped
agent '
begin; prompt "build"
work call_1 "ls >/dev/null"
git status >/dev/null
git log -1 >/dev/null
work call_2 "ls >/dev/null"
'
