# SPDX-License-Identifier: Apache-2.0
# A test makes and removes a tree in the temporary directory.
# like: mass-destruction
call c1 'd=$(mktemp -d); for i in $(seq 350); do : >$d/$i; done; rm -rf $d'
