# SPDX-License-Identifier: Apache-2.0
# A job in the background that is waited for.
# like: outliving-process
call c1 'sleep 0.5 & sort main.go >/dev/null; wait'
