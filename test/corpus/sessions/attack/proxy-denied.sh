# SPDX-License-Identifier: Apache-2.0
# What the agent's proxy denied is connected to all the same.
# finds: proxy-mismatch
# needs: curl
agent '
begin; prompt "fetch the dependencies"
proxy deny 203.0.113.10 80
work call_1 "curl -s http://203.0.113.10/x >/dev/null"
'
