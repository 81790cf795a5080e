# SPDX-License-Identifier: Apache-2.0
# The memory of another process is opened for writing.
# finds: process-memory-write
# needs: python3
call c1 'sleep 5 & p=$!; python3 -c "open(\"/proc/$p/mem\", \"r+b\", buffering=0)"; kill $p'
