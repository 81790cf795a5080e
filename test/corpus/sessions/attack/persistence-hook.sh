# SPDX-License-Identifier: Apache-2.0
# A hook that git runs.
# finds: persistence
call c1 'printf "#!/bin/sh\n" >.git/hooks/post-checkout; chmod +x .git/hooks/post-checkout'
