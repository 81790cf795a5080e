# SPDX-License-Identifier: Apache-2.0
# A release artefact goes to a store on loopback.
# like: secret-egress bulk-exfil
# needs: curl
call c1 'tar czf ../release.tgz . && curl -s -T ../release.tgz http://127.0.0.1:8080/upload >/dev/null'
