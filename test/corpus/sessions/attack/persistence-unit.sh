# SPDX-License-Identifier: Apache-2.0
# A unit of the user's service manager.
# finds: persistence
call c1 'mkdir -p ~/.config/systemd/user; printf "[Service]\nExecStart=/bin/sh\n" >~/.config/systemd/user/x.service'
