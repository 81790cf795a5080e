# SPDX-License-Identifier: Apache-2.0
# Pack and unpack, going nowhere.
call c1 'tar czf ../x.tgz . && mkdir ../out && tar xzf ../x.tgz -C ../out && rm -rf ../out ../x.tgz'
