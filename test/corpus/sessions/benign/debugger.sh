# SPDX-License-Identifier: Apache-2.0
# A debugger traces what it started.
# like: process-injection
# needs: strace
call c1 'strace -o trace.txt true'
