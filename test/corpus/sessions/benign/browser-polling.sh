# SPDX-License-Identifier: Apache-2.0
# A dev server is polled by something like a browser: the same request, every tenth of a second.
# needs: node
call c1 'node -e "
const http = require(\"http\");
const server = http.createServer((q, r) => r.end(\"ok\")).listen(0, \"127.0.0.1\", () => {
  let n = 0;
  const poll = () => http.get({port: server.address().port, host: \"127.0.0.1\"}, r => { r.resume(); r.on(\"end\", () => ++n < 20 ? setTimeout(poll, 100) : server.close()); });
  poll();
});"'
