# SPDX-License-Identifier: Apache-2.0
# Hundreds of the project's files go at once.
# finds: mass-destruction
call c1 'rm -rf assets'
