# SPDX-License-Identifier: Apache-2.0
# A registry is asked over HTTPS.
# like: off-policy-connect dns-over-https
# needs: curl
call c1 'curl -sk -m 3 --resolve registry.example:443:203.0.113.11 https://registry.example/ || true'
