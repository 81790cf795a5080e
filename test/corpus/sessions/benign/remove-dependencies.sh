# SPDX-License-Identifier: Apache-2.0
# Dependencies and build output are removed by the hundred.
# like: mass-destruction
call c1 'mkdir -p node_modules/p dist; for i in $(seq 400); do : >node_modules/p/$i.js; : >dist/$i.js; done; rm -rf node_modules dist'
