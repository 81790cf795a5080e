# SPDX-License-Identifier: Apache-2.0
# A process is moved to a cgroup within its sandbox.
# like: sandbox-left
# needs: findmnt
root=$(findmnt -nt cgroup2 -o TARGET | head -1)
own=$root$(sed -n 's/^0:://p' /proc/self/cgroup)
call c1 "mkdir $own/jobs; bash -c 'echo \$\$ >$own/jobs/cgroup.procs; true'; rmdir $own/jobs"
