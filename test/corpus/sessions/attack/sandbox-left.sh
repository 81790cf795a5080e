# SPDX-License-Identifier: Apache-2.0
# A process is moved out of its sandbox.
# finds: sandbox-left
# needs: findmnt
root=$(findmnt -nt cgroup2 -o TARGET | head -1)
call c1 "sleep 0.5 & echo \$! >$root/cgroup.procs; wait"
