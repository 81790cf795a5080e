# SPDX-License-Identifier: Apache-2.0
# Search a large tree, as agents do first.
call c1 'grep -rIl "include" /usr/include 2>/dev/null | head -50 | wc -l >/dev/null'
