# SPDX-License-Identifier: Apache-2.0
# Commands that fail: not found, exit codes, signals.
# like: collector-signalled
call c1 'false || true; nosuchcommand 2>/dev/null || true; sh -c "kill -9 \$\$" || true'
