# SPDX-License-Identifier: Apache-2.0
# The program that the kernel runs as root at each crash is opened for writing. Nothing is written.
# finds: sandbox-escape-file
call c1 ': >>/proc/sys/kernel/core_pattern'
