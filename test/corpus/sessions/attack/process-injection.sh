# SPDX-License-Identifier: Apache-2.0
# One process takes hold of another.
# finds: process-injection
# needs: cc
call c1 'sleep 5 & $TOOLS/evade ptrace $!; kill $!'
