# SPDX-License-Identifier: Apache-2.0
# A BPF map is made from within the sandbox.
# finds: kernel-changed
# needs: cc
call c1 '$TOOLS/evade bpf x'
