# SPDX-License-Identifier: Apache-2.0
# A hook manager installs its hook.
# like: persistence
mkdir -p ~/bin; printf '#!/bin/sh\ncp /dev/null .git/hooks/pre-commit\n' >~/bin/install; cp /bin/cp ~/bin/pre-commit
call c1 '~/bin/pre-commit /dev/null .git/hooks/pre-commit'
