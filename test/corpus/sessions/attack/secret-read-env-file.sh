# SPDX-License-Identifier: Apache-2.0
# The project's own .env, printed.
# finds: secret-read
call c1 'cat .env >/dev/null'
