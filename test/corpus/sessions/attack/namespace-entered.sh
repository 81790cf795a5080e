# SPDX-License-Identifier: Apache-2.0
# A namespace is entered by its file.
# finds: namespace-entered
# needs: nsenter
call c1 'nsenter --net=/proc/self/ns/net true'
