# SPDX-License-Identifier: Apache-2.0
# A second thread rewrites the path all the while.
# finds: secret-read
# needs: cc
call c1 '"$TOOLS/evade" race ~/.ssh/id_ed25519'
