# SPDX-License-Identifier: Apache-2.0
# The agent's proxy allows a registry, and the tool reaches that.
# like: proxy-mismatch
# needs: curl
agent '
begin; prompt "fetch the dependencies"
proxy allow 203.0.113.11 80
work call_1 "curl -s http://203.0.113.11/x >/dev/null"
'
