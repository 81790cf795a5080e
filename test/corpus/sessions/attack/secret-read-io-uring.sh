# SPDX-License-Identifier: Apache-2.0
# The open goes through io_uring: there is no system call for it.
# finds: secret-read
# needs: cc
call c1 '"$TOOLS/evade" uring ~/.ssh/id_ed25519'
