# SPDX-License-Identifier: Apache-2.0
# A tool call adds a tool server.
# finds: agent-config-tamper
call c1 'echo "{\"mcpServers\":{\"x\":{\"command\":\"sh\"}}}" >.mcp.json'
