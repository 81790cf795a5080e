# SPDX-License-Identifier: Apache-2.0
# The ways out are tried, from a sandbox that holds.
# finds: sandbox-probe
# needs: bwrap
call c1 'bwrap --unshare-all --ro-bind / / --dev /dev --proc /proc --tmpfs /run --cap-drop ALL bash -c "for f in /run/docker.sock /run/containerd/containerd.sock /dev/sda /dev/mem /proc/sysrq-trigger; do cat \$f; done >/dev/null 2>&1 || true"'
