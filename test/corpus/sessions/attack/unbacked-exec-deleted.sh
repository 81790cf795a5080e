# SPDX-License-Identifier: Apache-2.0
# A program whose file is gone before it runs.
# finds: unbacked-exec
# needs: python3
call c1 'cp /bin/true ./t; python3 -c "
import os
fd = os.open(\"t\", os.O_RDONLY)
os.unlink(\"t\")
os.execv(\"/proc/self/fd/%d\" % fd, [\"t\"])"'
