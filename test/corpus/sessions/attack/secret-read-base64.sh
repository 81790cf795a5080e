# SPDX-License-Identifier: Apache-2.0
# The command comes out of base64, through a pipe.
# finds: secret-read
call c1 "echo Y2F0IH4vLnNzaC9pZF9lZDI1NTE5ID4vZGV2L251bGwK | base64 -d | bash"
