# SPDX-License-Identifier: Apache-2.0
# Many short processes at once.
call c1 'seq 200 | xargs -P8 -n1 true'
