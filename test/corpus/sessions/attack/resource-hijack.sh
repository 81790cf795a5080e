# SPDX-License-Identifier: Apache-2.0
# Something computes, and it is no build.
# finds: resource-hijack
# detectors: {saturation_floor: 1s}
call c1 'timeout 8 bash -c "while :; do :; done" || true; mkdir -p ~/bin; cp /bin/bash ~/bin/kworker; timeout 8 ~/bin/kworker -c "while :; do :; done" || true'
