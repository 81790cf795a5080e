# SPDX-License-Identifier: Apache-2.0
# A tool asks the agent's proxy for one server, and the proxy's verdict, on the same connection, names another.
# finds: proxy-mismatch
# tells: it asked the proxy for evil.example
# needs: python3
agent '
begin; prompt "fetch the dependencies"
decide call_1 approved config
tool call_1 "python3 -c \"
import socket, time
s = socket.create_connection((\\\"203.0.113.11\\\", 80))
open(\\\"port\\\", \\\"w\\\").write(str(s.getsockname()[1]))
s.send(b\\\"CONNECT evil.example:443 HTTP/1.1\\\\r\\\\nHost: evil.example:443\\\\r\\\\n\\\\r\\\\n\\\")
s.recv(99)
time.sleep(0.3)
\""
say codex.network_proxy.policy_decision network.policy.decision allow server.address good.example server.port 443 network.policy.source policy client.address "203.0.113.11:$(cat port)"
result call_1 x
work call_2 "ls >/dev/null"
'
