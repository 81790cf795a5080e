# The project's own .env, printed.
# finds: secret-read
call c1 'cat .env >/dev/null'
