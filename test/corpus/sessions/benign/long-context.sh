# SPDX-License-Identifier: Apache-2.0
# A long context that the model's provider has in its cache, as in every long session.
# like: runaway-tokens
agent '
begin; prompt "go on"
for i in {1..40}; do say codex.sse_event event.kind response.completed input_token_count 199000 cached_token_count 195000 output_token_count 1000 model m; done
work call_1 "ls >/dev/null"
'
