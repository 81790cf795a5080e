# SPDX-License-Identifier: Apache-2.0
# A package's install script reads a key.
# finds: install-script secret-read
# needs: npm node
mkdir evil; echo '{"name":"evil","version":"1.0.0","scripts":{"postinstall":"node steal.js"}}' >evil/package.json
echo 'require("fs").readFileSync(process.env.HOME + "/.ssh/id_ed25519")' >evil/steal.js
echo '{"name":"app","version":"1.0.0"}' >package.json
call c1 'npm install --offline --no-audit --no-fund --install-links ./evil >/dev/null'
