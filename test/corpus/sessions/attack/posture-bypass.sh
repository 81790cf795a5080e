# SPDX-License-Identifier: Apache-2.0
# The agent is started without its safeguards.
# finds: posture-bypass
mkdir -p ~/bin; cp /bin/true ~/bin/codex
~/bin/codex exec --dangerously-bypass-approvals-and-sandbox "do it"
