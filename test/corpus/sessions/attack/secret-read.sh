# SPDX-License-Identifier: Apache-2.0
# A tool call prints a private key.
# finds: secret-read
call c1 'cat ~/.ssh/id_ed25519 >/dev/null'
