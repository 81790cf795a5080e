# SPDX-License-Identifier: Apache-2.0
# A shell asks a server on loopback by itself, on ports of all kinds.
# like: shell-connects shell-behind-netcat mining-pool reverse-shell-child
call c1 'exec 3<>/dev/tcp/127.0.0.1/8080; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3 >/dev/null; (exec 4<>/dev/tcp/127.0.0.1/3333) 2>/dev/null || true; sh -c true'
