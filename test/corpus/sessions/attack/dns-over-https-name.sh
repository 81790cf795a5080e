# SPDX-License-Identifier: Apache-2.0
# A public resolver is asked over HTTPS at an address that nobody knows: the name in TLS tells.
# finds: dns-over-https
# needs: curl
call c1 'curl -sk -m 3 --resolve dns.google:443:203.0.113.10 https://dns.google/dns-query || true'
