# SPDX-License-Identifier: Apache-2.0
# What diagnostics look at: the kernel's files about itself and the machine, and one that is not there.
# like: sandbox-escape-file sandbox-probe kernel-changed process-memory-write collector-files
# needs: python3
call c1 'cat /proc/cpuinfo /proc/self/status /proc/sys/kernel/core_pattern /proc/modules >/dev/null; ls /sys/kernel /var/lib >/dev/null; test -S /run/docker.sock || true
python3 -c "
import os
open(\"/proc/%d/mem\" % os.getpid(), \"r+b\", buffering=0).close()
"'
