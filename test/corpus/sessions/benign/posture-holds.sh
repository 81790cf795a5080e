# SPDX-License-Identifier: Apache-2.0
# The agent says that it confines its commands, and does.
# like: posture-drift
# needs: setpriv
agent '
begin never workspace-write; prompt "build"
decide call_1 approved config
CODEX_THREAD_ID=$conversation CODEX_TOOL_CALL_ID=call_1 setpriv --no-new-privs /bin/bash -c "ls >/dev/null"
result call_1 "ls >/dev/null"
'
