# SPDX-License-Identifier: Apache-2.0
# A 32-bit system call from a 64-bit program, whose number is another call's.
# finds: secret-read
# needs: cc
call c1 '"$TOOLS/evade" compat ~/.ssh/id_ed25519'
