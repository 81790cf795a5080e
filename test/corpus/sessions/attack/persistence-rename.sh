# SPDX-License-Identifier: Apache-2.0
# Written elsewhere, moved into place.
# finds: persistence-rename
call c1 'echo "x" >new; mv new ~/.profile'
