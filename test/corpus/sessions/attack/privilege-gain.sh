# SPDX-License-Identifier: Apache-2.0
# A set-user-id program gives a user root.
# finds: privilege-gain
# needs: setpriv
mkdir -p ~/bin; cp /bin/true ~/bin/tool; chmod 4755 ~/bin/tool; chmod 755 ~
call c1 'setpriv --reuid=65534 --regid=65534 --clear-groups ~/bin/tool'
