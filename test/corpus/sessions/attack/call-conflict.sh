# SPDX-License-Identifier: Apache-2.0
# A process of one call takes the id of another.
# finds: call-conflict
agent '
begin; prompt "build"
work call_1 "CODEX_TOOL_CALL_ID=call_9 ls >/dev/null; true"
'
