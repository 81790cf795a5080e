# SPDX-License-Identifier: Apache-2.0
# What the scripted agent knows. It runs in a shell whose program is called codex, and speaks as Codex does: OTLP logs
# over HTTP, sent by its own process. Its tool calls run in shells of their own with its ids in their environment.
set -eu
conversation=corpus-${RANDOM}-0000000000000001
endpoint=${WATCHGLASS_OTLP_ENDPOINT#http://}

# quoted TEXT makes JSON of a text, in REPLY.
quoted() {
	local text=${1//\\/\\\\}
	text=${text//\"/\\\"}
	text=${text//$'\n'/\\n}
	REPLY="\"$text\""
}

# say EVENT [KEY VALUE]… is one log record.
say() {
	local event=$1 attributes body
	shift
	attributes="{\"key\":\"event.name\",\"value\":{\"stringValue\":\"$event\"}},{\"key\":\"conversation.id\",\"value\":{\"stringValue\":\"$conversation\"}}"
	while (($# > 1)); do
		quoted "$2"
		attributes+=",{\"key\":\"$1\",\"value\":{\"stringValue\":$REPLY}}"
		shift 2
	done
	body="{\"resourceLogs\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"codex_exec\"}}]},\"scopeLogs\":[{\"scope\":{\"name\":\"codex_otel.log_only\"},\"logRecords\":[{\"observedTimeUnixNano\":\"${EPOCHREALTIME/[.,]/}000\",\"attributes\":[$attributes]}]}]}]}"
	exec 9<>"/dev/tcp/${endpoint%:*}/${endpoint##*:}"
	printf 'POST /v1/logs HTTP/1.1\r\nHost: collector\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' "${#body}" "$body" >&9
	read -r REPLY <&9
	exec 9>&-
	[[ $REPLY == *" 200 "* ]] || { echo "the collector answered: $REPLY" >&2; exit 1; }
}

begin() { say codex.conversation_starts approval_policy "${1:-on-request}" sandbox_policy "${2:-danger-full-access}" model m; }
prompt() { say codex.user_prompt prompt_length "${#1}" prompt "$1"; }
# decide ID approved|denied user|config
decide() { say codex.tool_decision tool_name exec_command call_id "$1" decision "$2" source "$3"; }
# tool ID COMMAND runs a command as the tool call.
tool() { CODEX_THREAD_ID=$conversation CODEX_TOOL_CALL_ID=$1 /bin/bash -c "$2" || true; }
# result ID COMMAND [NAME] [SERVER] tells of its end.
result() {
	quoted "$2"
	say codex.tool_result tool_name "${3:-exec_command}" call_id "$1" duration_ms 30 success true mcp_server "${4:-}" arguments "{\"cmd\":$REPLY}" \
		output $'Wall time: 0.0 seconds\nProcess exited with code 0\nOutput:\n'
}
# work ID COMMAND is a whole call that nobody had to be asked about.
work() {
	decide "$1" approved config
	tool "$1" "$2"
	result "$1" "$2"
}
# outcome ID escalated|denied is what became of a call in the agent's sandbox.
outcome() { say codex.sandbox_outcome tool_name exec_command call_id "$1" outcome "$2" initial_duration_ms 5; }
# proxy allow|deny SERVER PORT is a decision of the agent's network proxy.
proxy() { say codex.network_proxy.policy_decision network.policy.decision "$1" server.address "$2" server.port "$3" network.policy.source policy; }
