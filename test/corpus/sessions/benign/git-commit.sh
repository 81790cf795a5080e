# Edit, stage, commit.
call c1 'echo "// more" >>main.go; git add -A; git commit -qm more; git show --stat | cat >/dev/null'
