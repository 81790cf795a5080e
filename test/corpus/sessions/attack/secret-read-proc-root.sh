# SPDX-License-Identifier: Apache-2.0
# The path goes through /proc/self/root.
# finds: secret-read
call c1 'cat /proc/self/root$HOME/.ssh/id_ed25519 >/dev/null'
