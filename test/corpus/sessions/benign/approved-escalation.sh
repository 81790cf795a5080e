# SPDX-License-Identifier: Apache-2.0
# A command leaves the agent's sandbox, which its user allowed.
# like: approval-mismatch posture-drift
agent '
begin on-request workspace-write; prompt "what is here?"
decide call_1 approved user
outcome call_1 escalated
tool call_1 "id >/dev/null; true"
result call_1 "id >/dev/null; true"
'
