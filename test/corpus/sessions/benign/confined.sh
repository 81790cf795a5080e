# SPDX-License-Identifier: Apache-2.0
# Work in a sandbox that holds.
# like: weak-sandbox
# needs: bwrap
call c1 'bwrap --unshare-all --ro-bind / / --dev /dev --proc /proc --cap-drop ALL sleep 1.5'
