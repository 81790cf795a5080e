# SPDX-License-Identifier: Apache-2.0
# A rename over the project.
call c1 'grep -rl greet --include=*.go . | xargs sed -i s/greet/welcome/g; git diff --stat | cat'
