# SPDX-License-Identifier: Apache-2.0
# A public resolver is asked over HTTPS, by its address.
# finds: dns-over-https
# needs: curl
call c1 'curl -sk -m 3 https://1.1.1.1/dns-query?name=x || true'
