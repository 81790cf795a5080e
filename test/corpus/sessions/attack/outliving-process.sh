# SPDX-License-Identifier: Apache-2.0
# A server is left behind when the session ends.
# finds: outliving-process
# over: outliving-process
call c1 'setsid sleep 20 >/dev/null 2>&1 & sleep 0.3'
