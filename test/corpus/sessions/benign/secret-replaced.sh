# SPDX-License-Identifier: Apache-2.0
# A program replaces the credentials that it keeps, as programs do: a new file renamed over the old one.
# like: secret-moved
call c1 'echo "[default]" >~/.aws/credentials.new; mv ~/.aws/credentials.new ~/.aws/credentials'
