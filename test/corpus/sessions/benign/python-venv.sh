# SPDX-License-Identifier: Apache-2.0
# Threads and a process pool.
# needs: python3
call c1 'python3 -c "
from concurrent.futures import ThreadPoolExecutor as T
import subprocess
list(T(8).map(lambda i: subprocess.run([\"true\"]), range(16)))"'
