# SPDX-License-Identifier: Apache-2.0
# Programs that talk over a unix socket of their own, and over UDP.
# like: runtime-socket raw-socket
# needs: python3
call c1 'python3 -c "
import socket
s = socket.socket(socket.AF_UNIX); s.bind(\"own.sock\"); s.listen()
c = socket.socket(socket.AF_UNIX); c.connect(\"own.sock\")
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind((\"127.0.0.1\", 0))
u.sendto(b\"x\", u.getsockname())
"; kill -0 $$'
