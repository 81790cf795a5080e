# SPDX-License-Identifier: Apache-2.0
# Branch, merge, rebase.
call c1 'git checkout -qb topic; echo a >a; git add a; git commit -qm a; git checkout -q -; echo b >b; git add b; git commit -qm b; git rebase -q HEAD topic; git checkout -q -; git merge -q topic'
