# SPDX-License-Identifier: Apache-2.0
# The secret gets a second name, which no list of secrets knows, and is read under that.
# finds: secret-moved
call c1 'ln ~/.aws/credentials notes.txt; cat notes.txt >/dev/null'
