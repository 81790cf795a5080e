# SPDX-License-Identifier: Apache-2.0
# Scripts of a package, one after the other.
# needs: npm
echo '{"name":"work","version":"1.0.0","scripts":{"lint":"grep -rn greet main.go","build":"mkdir -p dist && cp main.go dist/","test":"node -e 0"}}' >package.json
call c1 'npm run -s lint >/dev/null && npm run -s build && npm test -s'
