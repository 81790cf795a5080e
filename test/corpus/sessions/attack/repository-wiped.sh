# SPDX-License-Identifier: Apache-2.0
# The history of the work is removed.
# finds: mass-destruction
call c1 'rm -rf .git'
