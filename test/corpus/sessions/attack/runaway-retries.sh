# SPDX-License-Identifier: Apache-2.0
# The agent's model refuses, and the agent asks again and again.
# finds: runaway-retries
agent '
begin; prompt "go on"
for i in {1..20}; do say codex.api_request http.response.status_code 429 error.message "too many requests" attempt "$i" model m; done
'
