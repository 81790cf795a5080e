# SPDX-License-Identifier: Apache-2.0
# A datagram out of policy, without a connect.
# finds: off-policy-connect
call c1 'echo x >/dev/udp/203.0.113.10/53'
