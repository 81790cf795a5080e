# SPDX-License-Identifier: Apache-2.0
# The template of an .env is no secret.
# like: secret-read
call c1 'echo KEY= >.env.example; cat .env.example >/dev/null'
