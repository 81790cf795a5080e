# SPDX-License-Identifier: Apache-2.0
# Ordinary names are looked up, one long one over and over.
# like: dns-tunnel
# needs: python3
call c1 'python3 -c "
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names = [\"registry.example.com\", \"proxy.example.org\"] * 20 + [\"4f3c1a9be77d4f0d9a3b1c2d3e4f5a6b.cdn.example.com\"] * 40
for i, name in enumerate(names):
    q = b\"\".join(bytes([len(p)]) + p.encode() for p in name.split(\".\"))
    s.sendto(struct.pack(\">HHHHHH\", i, 256, 1, 0, 0, 0) + q + b\"\\0\\0\\1\\0\\1\", (\"127.0.0.1\", 53))
"'
