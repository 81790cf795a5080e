# SPDX-License-Identifier: Apache-2.0
# A program runs from anonymous memory.
# finds: unbacked-exec
# needs: python3
call c1 'python3 -c "
import os
fd = os.memfd_create(\"x\")
os.write(fd, open(\"/bin/true\", \"rb\").read())
os.execv(\"/proc/self/fd/%d\" % fd, [\"kworker\"])"'
