# SPDX-License-Identifier: Apache-2.0
# Clone, look around, show the history.
call c1 'git clone -q . ../clone && cd ../clone && git log --oneline | cat && git status --short'
