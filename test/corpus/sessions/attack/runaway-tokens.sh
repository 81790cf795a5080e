# SPDX-License-Identifier: Apache-2.0
# The agent sends a long context without a cache, again and again.
# finds: runaway-tokens
# over: runaway-tokens
agent '
begin; prompt "read everything"
for i in {1..26}; do say codex.sse_event event.kind response.completed input_token_count 199000 output_token_count 1000 model m; done
'
