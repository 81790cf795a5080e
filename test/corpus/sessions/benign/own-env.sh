# SPDX-License-Identifier: Apache-2.0
# An .env that the session makes and reads.
# like: secret-read
call c1 'mkdir demo; echo PORT=8080 >demo/.env; . demo/.env; cat demo/.env >/dev/null'
