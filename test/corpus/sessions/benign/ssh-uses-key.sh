# SPDX-License-Identifier: Apache-2.0
# ssh uses its key to reach a host that refuses.
# like: secret-read secret-egress
# needs: ssh
call c1 'ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=1 -i ~/.ssh/id_ed25519 -p 8081 127.0.0.1 true 2>/dev/null || true'
