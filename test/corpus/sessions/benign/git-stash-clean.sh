# SPDX-License-Identifier: Apache-2.0
# Stash, clean, reset.
call c1 'echo x >>main.go; git stash -q; git stash pop -q; touch junk; git clean -fdq; git checkout -q -- .'
