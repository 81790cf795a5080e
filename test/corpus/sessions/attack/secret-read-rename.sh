# SPDX-License-Identifier: Apache-2.0
# The secret is renamed, read and put back.
# finds: secret-moved
call c1 'mv ~/.aws/credentials x; cat x >/dev/null; mv x ~/.aws/credentials'
