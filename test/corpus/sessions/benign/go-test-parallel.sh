# SPDX-License-Identifier: Apache-2.0
# Test with parallel children.
# needs: go
call c1 'go test ./... >/dev/null & go vet ./... & wait'
