# SPDX-License-Identifier: Apache-2.0
# The work is pushed to the remote that it has, on this machine.
# like: push-elsewhere push-new-remote
git init -q --bare ~/origin.git; git remote add origin ~/origin.git
call c1 'git push -q origin HEAD'
