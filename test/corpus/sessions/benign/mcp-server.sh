# SPDX-License-Identifier: Apache-2.0
# A tool server that was there from the start works as it always did.
# like: mcp-drift
# needs: python3
agent '
begin; prompt "look at the issues"
mkdir -p ~/servers
printf "import os\nos.listdir(\".\")\n" >~/servers/mcp-files.py
python3 ~/servers/mcp-files.py; result call_1 x list_files files
work call_2 "ls >/dev/null"
python3 ~/servers/mcp-files.py; result call_3 x list_files files
'
