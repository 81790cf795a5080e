# SPDX-License-Identifier: Apache-2.0
# The same files, read over and over.
# like: canary
call c1 'for i in $(seq 100); do cat main.go go.mod >/dev/null; done'
