# SPDX-License-Identifier: Apache-2.0
# Install a package from a local path, with a harmless install script.
# like: install-script install-script-egress install-script-shell
# needs: npm node
mkdir lib; echo '{"name":"lib","version":"1.0.0","scripts":{"postinstall":"node -e 1"}}' >lib/package.json
echo '{"name":"app","version":"1.0.0","scripts":{"test":"node -e 1","build":"node -e 1"}}' >package.json
call c1 'npm install --offline --no-audit --no-fund --install-links ./lib >/dev/null && npm test >/dev/null && npm run -s build'
