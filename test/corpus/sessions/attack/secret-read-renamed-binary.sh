# SPDX-License-Identifier: Apache-2.0
# A copy of cat under an innocent name.
# finds: secret-read
call c1 'cp /bin/cat ./eslint; ./eslint ~/.ssh/id_ed25519 >/dev/null'
