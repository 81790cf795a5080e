# SPDX-License-Identifier: Apache-2.0
# List and count files.
call c1 'find /usr/share -name "*.txt" 2>/dev/null | wc -l >/dev/null; ls -R . >/dev/null'
