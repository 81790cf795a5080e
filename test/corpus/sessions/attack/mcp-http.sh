# SPDX-License-Identifier: Apache-2.0
# A tool call adds a tool server that is reached over HTTP, and the agent reaches it.
# finds: mcp-drift agent-config-tamper
# tells: itself reached 203.0.113.10
agent '
begin; prompt "look at the issues"
exec 7<>/dev/tcp/203.0.113.11/80; exec 7>&-
work call_1 "echo {} >.mcp.json"
exec 7<>/dev/tcp/203.0.113.11/80; exec 7>&-
exec 7<>/dev/tcp/203.0.113.10/80; exec 7>&-
work call_2 "ls >/dev/null"
'
