# SPDX-License-Identifier: Apache-2.0
# A file that was planted for nobody is read, by something that reads all it finds.
# finds: canary secret-read
# run: --canary $HOME/.aws/backup-credentials
call c1 'cat ~/.aws/* >/dev/null'
