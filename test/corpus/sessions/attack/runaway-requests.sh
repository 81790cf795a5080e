# SPDX-License-Identifier: Apache-2.0
# The agent asks its model without end.
# finds: runaway-requests
agent '
begin; prompt "go on"
for i in {1..205}; do say codex.sse_event event.kind response.completed input_token_count 10 output_token_count 1 model m; done
'
