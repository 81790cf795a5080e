# SPDX-License-Identifier: Apache-2.0
# A tool server runs a shell.
# finds: mcp-drift
# needs: python3
agent '
begin; prompt "look at the issues"
mkdir -p ~/servers
printf "import subprocess\nsubprocess.run([\"/bin/sh\", \"-c\", \"id >/dev/null\"])\n" >~/servers/mcp-files.py
python3 ~/servers/mcp-files.py; result call_1 x list_files files
'
