# SPDX-License-Identifier: Apache-2.0
# A tool call starts another agent, which speaks for itself.
# like: foreign-session call-conflict
agent '
begin; prompt "ask the other one"
other="~/.local/bin/codex -c \". $TOOLS/agent.sh; begin; prompt hello; work inner_1 true\""
decide call_1 approved config
tool call_1 "$other"
result call_1 "$other"
'
