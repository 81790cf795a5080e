# SPDX-License-Identifier: Apache-2.0
# A file from an allowed registry, checked, not run.
# like: off-policy-connect metadata-service download-execute download-execute-script
# needs: curl
call c1 'curl -s http://203.0.113.11/true -o dep.bin && sha256sum dep.bin >/dev/null'
