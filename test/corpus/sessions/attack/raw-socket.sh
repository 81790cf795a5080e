# SPDX-License-Identifier: Apache-2.0
# A socket that sees every packet.
# finds: raw-socket
# needs: python3
call c1 'python3 -c "
import socket
socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)"'
