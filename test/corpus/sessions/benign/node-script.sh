# SPDX-License-Identifier: Apache-2.0
# Run a script with node.
# needs: node
call c1 'node -e "require(\"fs\").readdirSync(\".\").length"'
