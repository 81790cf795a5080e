# SPDX-License-Identifier: Apache-2.0
# The collector is stopped from inside, and let go on later.
# finds: collector-paused collector-signalled
# takes: 25s
# waits: true
collector=$PPID
call c1 "kill -STOP $collector; sleep 17; kill -CONT $collector; sleep 5"
