# SPDX-License-Identifier: Apache-2.0
# The agent's model refuses twice, then answers.
# like: runaway-retries runaway-requests
agent '
begin; prompt "go on"
for i in 1 2; do say codex.api_request http.response.status_code 429 error.message "too many requests" attempt "$i" model m; done
work call_1 "ls >/dev/null"
'
