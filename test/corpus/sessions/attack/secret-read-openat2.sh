# SPDX-License-Identifier: Apache-2.0
# A static program that opens with openat2.
# finds: secret-read
# needs: cc
call c1 '"$TOOLS/evade" openat2 ~/.ssh/id_ed25519'
