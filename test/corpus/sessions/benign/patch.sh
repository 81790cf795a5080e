# SPDX-License-Identifier: Apache-2.0
# Make and apply a patch.
call c1 'cp main.go m2; echo "// x" >>m2; diff -u main.go m2 >p.diff || true; patch -s main.go p.diff; rm m2 p.diff'
