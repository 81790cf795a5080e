# SPDX-License-Identifier: Apache-2.0
# A tool makes a user namespace of its own and is root in it.
# like: privilege-gain namespace-entered
# needs: unshare setpriv
call c1 'unshare -Ur id >/dev/null; setpriv --reuid=65534 --regid=65534 --clear-groups id >/dev/null'
