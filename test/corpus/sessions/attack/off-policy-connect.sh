# SPDX-License-Identifier: Apache-2.0
# A connection to where the allow-list does not lead.
# finds: off-policy-connect
call c1 'exec 3<>/dev/tcp/203.0.113.10/80'
