# SPDX-License-Identifier: Apache-2.0
# A server that everybody can reach.
# finds: listens-beyond
# over: listens-beyond
# needs: python3
call c1 'python3 -c "
import socket
s = socket.socket()
s.bind((\"0.0.0.0\", 8765))
s.listen()"'
