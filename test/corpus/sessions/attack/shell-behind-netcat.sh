# SPDX-License-Identifier: Apache-2.0
# A program called nc starts a shell.
# finds: shell-behind-netcat
mkdir -p ~/bin; cp /bin/bash ~/bin/nc
call c1 '~/bin/nc -c "sh -c id >/dev/null; true"'
