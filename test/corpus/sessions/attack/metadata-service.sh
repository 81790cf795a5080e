# SPDX-License-Identifier: Apache-2.0
# The cloud's metadata service is asked for credentials.
# finds: metadata-service
# needs: curl
call c1 'curl -s http://169.254.169.254/latest/meta-data/iam/ >/dev/null'
