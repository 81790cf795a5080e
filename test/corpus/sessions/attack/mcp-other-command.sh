# SPDX-License-Identifier: Apache-2.0
# A tool server that was used is started again with another command.
# finds: mcp-drift
# tells: is started otherwise
# needs: python3
agent '
begin; prompt "look at the issues"
mkdir -p ~/servers
printf "import time\ntime.sleep(0.3)\n" >~/servers/mcp-files.py
python3 ~/servers/mcp-files.py /work; result call_1 x list_files files
work call_2 "ls >/dev/null"
python3 ~/servers/mcp-files.py /; result call_3 x list_files files
'
