# SPDX-License-Identifier: Apache-2.0
# A job is paused and goes on, and so does its call.
# like: collector-paused collector-signalled
call c1 'sleep 2 & kill -STOP $!; sleep 1; kill -CONT $!; wait'
