# SPDX-License-Identifier: Apache-2.0
# No sandbox at all, for long enough to be looked at.
# finds: weak-sandbox
# over: weak-sandbox
call c1 'sleep 1.5; true'
