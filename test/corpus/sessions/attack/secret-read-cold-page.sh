# SPDX-License-Identifier: Apache-2.0
# The path lies on a page that is not in memory when the call is made.
# finds: secret-read
# needs: cc
call c1 '"$TOOLS/evade" cold ~/.ssh/id_ed25519'
