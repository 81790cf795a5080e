# SPDX-License-Identifier: Apache-2.0
# The agent says that it confines its commands, and does not.
# finds: posture-drift
agent '
begin never workspace-write; prompt "build"
work call_1 "true; ls >/dev/null"
'
