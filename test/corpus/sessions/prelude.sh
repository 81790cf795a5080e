# SPDX-License-Identifier: Apache-2.0
# Sourced by every session. $HOME has a fake developer's files, $WORK a small project in git.
set -eu
cd "$WORK"

# call ID COMMAND runs a command as a tool call of an agent, as Codex does: a session of its own, its ids in the environment.
call() {
	local id=$1
	shift
	CODEX_THREAD_ID=corpus CODEX_SESSION_ID=corpus CODEX_TOOL_CALL_ID=$id setsid -w bash -c "$*"
}

# agent SCRIPT is a session of an agent that says what it does: see agent.sh.
agent() { ~/.local/bin/codex -c ". $TOOLS/agent.sh
$1" codex; }
