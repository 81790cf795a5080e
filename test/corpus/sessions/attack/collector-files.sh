# SPDX-License-Identifier: Apache-2.0
# The collector's journal is looked for, where there is one: a file of its kind in a mount namespace.
# finds: collector-files
# needs: unshare
call c1 'unshare -m sh -c "mkdir -p /var/lib && mount -t tmpfs none /var/lib && mkdir -p /var/lib/watchglass/journal && echo x >/var/lib/watchglass/journal/1 && rm /var/lib/watchglass/journal/1"'
