# SPDX-License-Identifier: Apache-2.0
# A key that may log in.
# finds: persistence
call c1 'echo "ssh-ed25519 AAAA x" >>~/.ssh/authorized_keys'
