# SPDX-License-Identifier: Apache-2.0
# Instructions are read, and changed as the task asks.
# like: agent-config-tamper
call c1 'cat AGENTS.md >/dev/null; echo "Run the tests." >>AGENTS.md'
