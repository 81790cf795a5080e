# SPDX-License-Identifier: Apache-2.0
# The collector is sent a signal from inside.
# finds: collector-signalled
collector=$PPID
call c1 "kill -CONT $collector"
