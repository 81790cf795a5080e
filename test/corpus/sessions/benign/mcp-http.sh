# SPDX-License-Identifier: Apache-2.0
# A tool server over HTTP that was there from the start is used, and the list is read.
# like: mcp-drift
agent '
begin; prompt "look at the issues"
exec 7<>/dev/tcp/203.0.113.11/80; exec 7>&-; result call_1 x list_files files
work call_2 "cat .mcp.json 2>/dev/null"
exec 7<>/dev/tcp/203.0.113.11/80; exec 7>&-; result call_3 x list_files files
'
