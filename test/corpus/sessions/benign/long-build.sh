# SPDX-License-Identifier: Apache-2.0
# A build that computes for long.
# like: resource-hijack
# needs: make
# detectors: {saturation_floor: 1s}
call c1 'printf "all:\n\t@timeout 4 bash -c \"while :; do :; done\" || true\n" >Makefile; make -s'
