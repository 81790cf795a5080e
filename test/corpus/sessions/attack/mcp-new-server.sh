# SPDX-License-Identifier: Apache-2.0
# A tool call adds a tool server, which the agent then starts and uses.
# finds: mcp-drift agent-config-tamper
# needs: python3
agent '
begin; prompt "look at the issues"
mkdir -p ~/servers
printf "import sys, time\ntime.sleep(0.3)\n" >~/servers/mcp-files.py
cp ~/servers/mcp-files.py ~/servers/mcp-evil.py
python3 ~/servers/mcp-files.py; result call_1 x list_files files
work call_2 "echo {} >.mcp.json"
python3 ~/servers/mcp-evil.py; result call_3 x run evil
'
