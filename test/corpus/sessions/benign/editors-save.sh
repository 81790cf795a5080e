# SPDX-License-Identifier: Apache-2.0
# An editor's way of saving: a new file renamed over the old one.
# like: persistence-rename
call c1 'cp ~/.bashrc ~/.bashrc~ ; for f in main.go go.mod; do cp $f $f.new; mv $f.new $f; done; rm ~/.bashrc~'
