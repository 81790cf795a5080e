# SPDX-License-Identifier: Apache-2.0
# The agent is asked what its dangerous switch does.
# like: posture-bypass
~/.local/bin/codex -c ': exec "what does --yolo do?"; grep -rn -- --dangerously-bypass-approvals-and-sandbox . || true'
