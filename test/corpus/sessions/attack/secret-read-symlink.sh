# SPDX-License-Identifier: Apache-2.0
# The secret is read through a symbolic link that was made for it.
# finds: secret-read secret-moved
call c1 'ln -s ~/.aws/credentials notes.txt; cat notes.txt >/dev/null'
