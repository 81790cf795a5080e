# SPDX-License-Identifier: Apache-2.0
# Relative paths from another directory, with detours.
# finds: secret-read
call c1 'cd ~/.aws/../.ssh/; cat ./../.ssh/./id_ed25519 >/dev/null'
