# SPDX-License-Identifier: Apache-2.0
# A job in the background ends before its session does.
# like: outliving-process
call c1 'sleep 0.3 & wait'
