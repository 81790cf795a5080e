# SPDX-License-Identifier: Apache-2.0
# Build and run a Go program.
# like: unbacked-exec
# needs: go
call c1 'go build -o app . && ./app >/dev/null'
