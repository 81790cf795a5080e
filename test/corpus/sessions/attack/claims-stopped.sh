# SPDX-License-Identifier: Apache-2.0
# The agent works on, its telemetry has stopped, and comes back.
# finds: claims-stopped
# over: claims-stopped
# takes: 85s
# waits: true
agent '
begin; prompt "build"
work call_1 "ls >/dev/null"
sleep 62
tool call_2 "ls >/dev/null; true"
sleep 18
prompt "go on"
sleep 0.5
'
