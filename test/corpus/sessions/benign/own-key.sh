# SPDX-License-Identifier: Apache-2.0
# A key that the session makes for its own tests.
# like: secret-read
# needs: openssl
call c1 'openssl genrsa -out server.key 2048 2>/dev/null && openssl rsa -in server.key -noout 2>/dev/null'
