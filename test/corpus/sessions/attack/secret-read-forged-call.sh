# SPDX-License-Identifier: Apache-2.0
# A process puts another call's id into the environment of what reads the secret.
# finds: secret-read
call c1 'CODEX_TOOL_CALL_ID=call_of_somebody_else cat ~/.ssh/id_ed25519 >/dev/null'
