# SPDX-License-Identifier: Apache-2.0
# What a tool call started speaks in the name of its session.
# finds: foreign-session
agent '
begin; prompt "build"
export conversation
work call_1 ". $TOOLS/agent.sh; conversation=$conversation; say codex.user_prompt prompt_length 4 prompt evil"
'
