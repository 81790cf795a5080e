# SPDX-License-Identifier: Apache-2.0
# A package's install script is a program that runs commands by a shell.
# finds: install-script-shell
# needs: npm node
mkdir evil; echo '{"name":"evil","version":"1.0.0","scripts":{"postinstall":"node setup.js"}}' >evil/package.json
echo 'require("child_process").execSync("id; uname -a")' >evil/setup.js
echo '{"name":"app","version":"1.0.0"}' >package.json
call c1 'npm install --offline --no-audit --no-fund --install-links ./evil >/dev/null'
