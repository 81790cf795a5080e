# SPDX-License-Identifier: Apache-2.0
# The socket of a container runtime is reached, in a mount namespace that has one.
# finds: runtime-socket
# needs: python3 unshare
call c1 'unshare -m sh -c "mount -t tmpfs none /run && python3 -c \"
import socket
s = socket.socket(socket.AF_UNIX); s.bind(\\\"/run/docker.sock\\\"); s.listen()
c = socket.socket(socket.AF_UNIX); c.connect(\\\"/run/docker.sock\\\")
\""'
