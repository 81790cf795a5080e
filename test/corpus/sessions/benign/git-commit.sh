# SPDX-License-Identifier: Apache-2.0
# Edit, stage, commit.
call c1 'echo "// more" >>main.go; git add -A; git commit -qm more; git show --stat | cat >/dev/null'
