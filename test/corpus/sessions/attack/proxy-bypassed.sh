# SPDX-License-Identifier: Apache-2.0
# The agent's tools go through a proxy, and one does not.
# finds: proxy-mismatch
# needs: curl
agent '
begin; prompt "fetch the dependencies"
proxy allow registry.example 443
work call_1 "curl -s http://203.0.113.11/x >/dev/null"
'
