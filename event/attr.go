// SPDX-License-Identifier: Apache-2.0

package event

// Key is the name of an attribute. Each name is written once, here; the comment of each constant
// is its description in docs/telemetry.md (generated), in which the leading "Key … is" is dropped.
// Names without the "watchglass." prefix are OpenTelemetry semantic conventions, verbatim.
type Key string

// Attributes of every event.
const (
	// OtelEventName is the event's name again, for backends that drop LogRecord.EventName.
	OtelEventName Key = "otel.event.name"
	// LogRecordUID is unique per event; it deduplicates after at-least-once delivery.
	LogRecordUID Key = "log.record.uid"
	// EventSeq is a number that grows by one per event and node while the collector runs: a gap proves a loss.
	EventSeq Key = "watchglass.event.seq"
	// CaptureTruncated is true when any field of the event was cut at a limit.
	CaptureTruncated Key = "watchglass.capture.truncated"
	// CaptureEscaped is the names of the attributes (or "body") whose bytes were not UTF-8: in them each such byte
	// is written as \xNN and each backslash is doubled.
	CaptureEscaped Key = "watchglass.capture.escaped"
)

// Attributes of the process that caused an event.
const (
	// ProcessPID is the process id in the initial PID namespace.
	ProcessPID Key = "process.pid"
	// ProcessParentPID is the process id of the parent at the time of the fork, in the initial PID namespace.
	ProcessParentPID Key = "process.parent_pid"
	// ProcessVPID is the process id as seen inside the process's own PID namespace.
	ProcessVPID Key = "process.vpid"
	// ProcessCreationTime is when the process was forked (RFC 3339, UTC).
	ProcessCreationTime Key = "process.creation.time"
	// ProcessExecutableName is the last element of the executable's path.
	ProcessExecutableName Key = "process.executable.name"
	// ProcessExecutablePath is the executable's path, from the kernel's file object, as the process's root sees it.
	ProcessExecutablePath Key = "process.executable.path"
	// ProcessCommandArgs is all arguments, the command's own name first.
	ProcessCommandArgs Key = "process.command_args"
	// ProcessArgsCount is the number of arguments, the command's own name included, also where some were cut.
	ProcessArgsCount Key = "process.args_count"
	// ProcessWorkingDirectory is the working directory at the time of the exec.
	ProcessWorkingDirectory Key = "process.working_directory"
	// ProcessUserID is the effective user id in the initial user namespace.
	ProcessUserID Key = "process.user.id"
	// ProcessGroupID is the effective group id in the initial user namespace.
	ProcessGroupID Key = "watchglass.process.group.id"
	// ProcessLinuxCgroup is the path of the process's cgroup below the cgroup2 mount.
	ProcessLinuxCgroup Key = "process.linux.cgroup"
	// ProcessExitCode is the exit code, 0 to 255; absent when a signal ended the process.
	ProcessExitCode Key = "process.exit.code"
	// ProcessExitTime is when the last thread of the process exited (RFC 3339, UTC).
	ProcessExitTime Key = "process.exit.time"
	// ProcessEnvironment is the prefix of the allow-listed environment variables at exec: the name follows the dot.
	ProcessEnvironment Key = "process.environment_variable"
	// ProcessUID identifies a process for ever: a hash of boot id, pid and start time. Pids are reused, this is not.
	ProcessUID Key = "watchglass.process.uid"
	// ProcessParentUID is the watchglass.process.uid of the parent.
	ProcessParentUID Key = "watchglass.process.parent_uid"
	// ProcessRootUID is the watchglass.process.uid of the sandbox's or agent's direct child from which the process descends.
	ProcessRootUID Key = "watchglass.process.root_uid"
	// ProcessAncestry is the executable names from the parent upwards, as far as known and at most 16.
	ProcessAncestry Key = "watchglass.process.ancestry"
	// ProcessOrigin is where the executable came from: file, image (a lower layer of an overlay), upper (its layer that
	// is written to), memfd, deleted or tmpfs.
	ProcessOrigin Key = "watchglass.process.origin"
	// ProcessScript is the path that was asked to be executed when the kernel ran an interpreter instead.
	ProcessScript Key = "watchglass.process.script"
	// ProcessDuration is the time from fork to exit in seconds.
	ProcessDuration Key = "watchglass.process.duration"
	// ExitSignal is the name of the signal that ended the process, for example SIGKILL.
	ExitSignal Key = "watchglass.exit.signal"
	// ExitCoreDumped is true when the kernel wrote a core dump.
	ExitCoreDumped Key = "watchglass.exit.core_dumped"
	// ExitOOMKilled is true when the kernel killed the process because memory had run out.
	ExitOOMKilled Key = "watchglass.exit.oom_killed"
	// ProcessCPUUser is the time on a CPU in user mode, in seconds, of all threads.
	ProcessCPUUser Key = "watchglass.process.cpu.user"
	// ProcessCPUSystem is the time on a CPU in kernel mode, in seconds, of all threads.
	ProcessCPUSystem Key = "watchglass.process.cpu.system"
	// ProcessMaxResident is the most memory that was resident at once, in bytes.
	ProcessMaxResident Key = "watchglass.process.memory.max_resident"
	// ProcessBytesRead is the bytes that went through read(2) and its kin, of whatever files.
	ProcessBytesRead Key = "watchglass.process.io.read"
	// ProcessBytesWritten is the bytes that went through write(2) and its kin.
	ProcessBytesWritten Key = "watchglass.process.io.written"
	// ProcessDiskRead is the bytes that were read from disks.
	ProcessDiskRead Key = "watchglass.process.io.disk_read"
	// ProcessDiskWritten is the bytes that were written to disks.
	ProcessDiskWritten Key = "watchglass.process.io.disk_written"
	// ProcessMinorFaults is the page faults that needed no input.
	ProcessMinorFaults Key = "watchglass.process.faults.minor"
	// ProcessMajorFaults is the page faults that needed input.
	ProcessMajorFaults Key = "watchglass.process.faults.major"
)

// Attributes of what a process may do, at its exec.
const (
	// ProcessRealUserID is the real user id; absent when it and the saved one are the effective one.
	ProcessRealUserID Key = "process.real_user.id"
	// ProcessSavedUserID is the saved user id; absent as the real one is.
	ProcessSavedUserID Key = "process.saved_user.id"
	// ProcessGroupLeaderPID is the process group, in the initial PID namespace.
	ProcessGroupLeaderPID Key = "process.group_leader.pid"
	// ProcessSessionLeaderPID is the terminal session, in the initial PID namespace.
	ProcessSessionLeaderPID Key = "process.session_leader.pid"
	// ProcessTTY is the name of the controlling terminal; absent without one.
	ProcessTTY Key = "watchglass.process.tty"
	// ProcessLoginUID is the user id of the login, as audit keeps it; absent when there was none.
	ProcessLoginUID Key = "watchglass.process.login_uid"
	// ProcessSecureExec is true when the program got ids or capabilities that its caller did not have.
	ProcessSecureExec Key = "watchglass.process.secure_exec"
	// ProcessSetID is the set-id bits of the executable: setuid, setgid.
	ProcessSetID Key = "watchglass.process.executable.set_id"
	// ProcessSHA256 is the SHA-256 of the executable, in hexadecimal.
	ProcessSHA256 Key = "watchglass.process.executable.hash.sha256"
	// ProcessHashMissing is why there is none: busy, gone, changed, too_large, filesystem, unreadable.
	ProcessHashMissing Key = "watchglass.process.executable.hash.missing"
	// ProcessHashUncertain is true where the file changed so shortly before it was executed that the sum may be of what it
	// became after.
	ProcessHashUncertain Key = "watchglass.process.executable.hash.uncertain"
	// ProcessExecutableWritable is true when the executable's file system can be written to.
	ProcessExecutableWritable Key = "watchglass.process.executable.writable_mount"
	// ProcessInterpreter is the path of the interpreter that runs the script; absent when none does.
	ProcessInterpreter Key = "watchglass.process.interpreter"
	// ProcessCapsEffective is the effective capabilities, by name.
	ProcessCapsEffective Key = "watchglass.process.capabilities.effective"
	// ProcessCapsPermitted is the permitted capabilities, by name.
	ProcessCapsPermitted Key = "watchglass.process.capabilities.permitted"
	// ProcessCapsBounding is the capabilities that an exec can give at most, by name.
	ProcessCapsBounding Key = "watchglass.process.capabilities.bounding"
	// ProcessInitialUserNS is true when the process is in the initial user namespace: its capabilities are over the node.
	ProcessInitialUserNS Key = "watchglass.process.initial_user_namespace"
	// ProcessNamespaces is the inode numbers of the namespaces, by their names in /proc/PID/ns.
	ProcessNamespaces Key = "watchglass.process.namespaces"
	// ProcessOwnNamespaces is the names of the namespaces that are not the node's own.
	ProcessOwnNamespaces Key = "watchglass.process.namespaces.own"
	// ProcessUnknownNamespaces is the names of those of which the node's own is not known.
	ProcessUnknownNamespaces Key = "watchglass.process.namespaces.unknown"
	// ProcessNoNewPrivs is true when no exec can give the process more rights (no_new_privs).
	ProcessNoNewPrivs Key = "watchglass.process.no_new_privs"
	// ProcessSeccomp is how system calls are filtered: disabled, strict, filter.
	ProcessSeccomp Key = "watchglass.process.seccomp"
	// ProcessSeccompFilters is how many seccomp filters there are.
	ProcessSeccompFilters Key = "watchglass.process.seccomp.filters"
)

// Attributes of notable system calls.
const (
	// SyscallName is the system call's name in the numbers of its calling convention.
	SyscallName Key = "watchglass.syscall.name"
	// SyscallABIKey is the calling convention: x86_64, i386 or x32, of all of which a 64-bit program can make calls; aarch64 or arm.
	SyscallABIKey Key = "watchglass.syscall.abi"
	// SyscallNumber is the number in that convention; absent where the kernel told of the effect and not of the call.
	SyscallNumber Key = "watchglass.syscall.number"
	// SyscallArgumentKey is the prefix of the decoded arguments: the name in the manual page follows the dot.
	SyscallArgumentKey Key = "watchglass.syscall.argument"
	// SyscallClaimed is the names of the arguments that are the caller's word: what its memory held after the call.
	SyscallClaimed Key = "watchglass.syscall.claimed"
	// SyscallResult is what the call returned; an error is negative.
	SyscallResult Key = "watchglass.syscall.result"
	// TargetPID is the process that the call was about, in the initial PID namespace.
	TargetPID Key = "watchglass.target.pid"
	// TargetUserID is its effective user id.
	TargetUserID Key = "watchglass.target.user_id"
	// TargetName is its task's name.
	TargetName Key = "watchglass.target.name"
	// TargetUID is its watchglass.process.uid.
	TargetUID Key = "watchglass.target.uid"
	// TargetForeign is true when it is not in the sandbox of the one who called.
	TargetForeign Key = "watchglass.target.foreign"
)

// Attributes of changes of credentials.
const (
	// CredentialsCause is what changed them: the name of a system call, exec, or unknown.
	CredentialsCause Key = "watchglass.credentials.cause"
	// CredentialsElevated is true when the process may do more to the node than before.
	CredentialsElevated Key = "watchglass.credentials.elevated"
	// CredentialsUserID is the new effective user id, where it changed.
	CredentialsUserID Key = "watchglass.credentials.user_id"
	// CredentialsOldUserID is the effective user id before.
	CredentialsOldUserID Key = "watchglass.credentials.old.user_id"
	// CredentialsOldRealUserID is the real user id before.
	CredentialsOldRealUserID Key = "watchglass.credentials.old.real_user_id"
	// CredentialsOldSavedUserID is the saved user id before.
	CredentialsOldSavedUserID Key = "watchglass.credentials.old.saved_user_id"
	// CredentialsGroupID is the new effective group id, where it changed.
	CredentialsGroupID Key = "watchglass.credentials.group_id"
	// CredentialsOldGroupID is the effective group id before.
	CredentialsOldGroupID Key = "watchglass.credentials.old.group_id"
	// CredentialsGained is the capabilities that the process may use now and could not before, by name.
	CredentialsGained Key = "watchglass.credentials.capabilities.gained"
	// CredentialsLost is the capabilities that it could use before, by name.
	CredentialsLost Key = "watchglass.credentials.capabilities.lost"
)

// Attributes of moves between cgroups.
const (
	// MoveDirectionKey is how the move is to the sandbox: in, out, within, between. One that moved out is still watched.
	MoveDirectionKey Key = "watchglass.move.direction"
	// MoveFrom is the path of the cgroup that the process was in, below the cgroup2 mount.
	MoveFrom Key = "watchglass.move.from"
	// MoveTo is the path of the cgroup that it is in.
	MoveTo Key = "watchglass.move.to"
	// MoveFromID is the id of the cgroup that it was in: its directory's inode.
	MoveFromID Key = "watchglass.move.from_id"
	// MoveToID is the id of the cgroup that it is in.
	MoveToID Key = "watchglass.move.to_id"
	// MoveBorn is true when the process was not moved but born in the other cgroup (CLONE_INTO_CGROUP).
	MoveBorn Key = "watchglass.move.born"
	// MoveThread is true when only one thread of the process was moved.
	MoveThread Key = "watchglass.move.thread"
	// MoverPID is the process that did it, in the initial PID namespace.
	MoverPID Key = "watchglass.move.by.pid"
	// MoverUserID is its effective user id.
	MoverUserID Key = "watchglass.move.by.user_id"
	// MoverName is its task's name.
	MoverName Key = "watchglass.move.by.name"
	// MoverUID is its watchglass.process.uid.
	MoverUID Key = "watchglass.move.by.uid"
)

// Attributes of the agent, its session and its tool calls.
const (
	// SessionID is the agent's own id of the session.
	SessionID Key = "session.id"
	// GenAIConversationID is the agent's own id of the conversation.
	GenAIConversationID Key = "gen_ai.conversation.id"
	// GenAIAgentName is the agent: codex, claude-code, gemini-cli, opencode, or generic.
	GenAIAgentName Key = "gen_ai.agent.name"
	// GenAIToolCallID is the agent's id of the tool call that owns the process.
	GenAIToolCallID Key = "gen_ai.tool.call.id"
	// JoinMethod is how the process was joined to the session and tool call: env, hook, group, proxy, command, candidate, path,
	// interval, shell, session, executable, inherited.
	JoinMethod Key = "watchglass.join.method"
	// JoinConfidence is how sure the join is: exact, strong, inferred.
	JoinConfidence Key = "watchglass.join.confidence"
)

// Attributes of claims: of everything that an agent said.
const (
	// GenAIAgentVersion is the agent's version, as it says.
	GenAIAgentVersion Key = "gen_ai.agent.version"
	// GenAIAgentID is the sub-agent that speaks, as the agent names it; absent for the main one.
	GenAIAgentID Key = "gen_ai.agent.id"
	// GenAIOperationName is the operation: execute_tool, chat, invoke_agent.
	GenAIOperationName Key = "gen_ai.operation.name"
	// GenAIProviderName is who serves the model.
	GenAIProviderName Key = "gen_ai.provider.name"
	// GenAIRequestModel is the model that was asked for.
	GenAIRequestModel Key = "gen_ai.request.model"
	// GenAIResponseModel is the model that answered.
	GenAIResponseModel Key = "gen_ai.response.model"
	// GenAIResponseID is the provider's id of the answer.
	GenAIResponseID Key = "gen_ai.response.id"
	// GenAIFirstChunk is the time to the first chunk of the answer in seconds.
	GenAIFirstChunk Key = "gen_ai.response.time_to_first_chunk"
	// GenAIInputTokens is the tokens of the request, cached ones included.
	GenAIInputTokens Key = "gen_ai.usage.input_tokens"
	// GenAIOutputTokens is the tokens of the answer.
	GenAIOutputTokens Key = "gen_ai.usage.output_tokens"
	// GenAIReasoningTokens is the tokens of the answer that are reasoning.
	GenAIReasoningTokens Key = "gen_ai.usage.reasoning.output_tokens"
	// GenAICacheReadTokens is the tokens of the request that came from the provider's cache.
	GenAICacheReadTokens Key = "gen_ai.usage.cache_read.input_tokens"
	// GenAICacheCreationTokens is the tokens of the request that went into it.
	GenAICacheCreationTokens Key = "gen_ai.usage.cache_creation.input_tokens"
	// GenAIInputMessages is the prompt. Told only on request.
	GenAIInputMessages Key = "gen_ai.input.messages"
	// GenAIToolName is the tool's name.
	GenAIToolName Key = "gen_ai.tool.name"
	// GenAIToolType is function or extension.
	GenAIToolType Key = "gen_ai.tool.type"
	// GenAIToolCallArguments is the call's arguments as the agent gives them.
	GenAIToolCallArguments Key = "gen_ai.tool.call.arguments"
	// GenAIToolCallResult is the call's result as the agent gives it. Told only on request.
	GenAIToolCallResult Key = "gen_ai.tool.call.result"
	// MCPMethodName is the method of the Model Context Protocol: tools/call.
	MCPMethodName Key = "mcp.method.name"
	// HTTPResponseStatusCode is the HTTP status of the answer.
	HTTPResponseStatusCode Key = "http.response.status_code"
	// ServerPort is the port of the server that is meant.
	ServerPort Key = "server.port"
	// ClientAddress is the address from which the decision was asked for.
	ClientAddress Key = "client.address"
	// ClientPort is its port.
	ClientPort Key = "client.port"
	// ErrorMessage is the error's text, as the agent gives it.
	ErrorMessage Key = "watchglass.error.message"
	// ClaimChannel is how the claim came: log, span, hook, metric, or facts where the kernel alone tells it.
	ClaimChannel Key = "watchglass.claim.channel"
	// ClaimTimeSource is where the event's time is from: record, observed, span, derived, received, hook, kernel.
	ClaimTimeSource Key = "watchglass.claim.time_source"
	// ClaimReceived is when the claim came in (RFC 3339, UTC).
	ClaimReceived Key = "watchglass.claim.received"
	// ClaimSender is who sent it, as the kernel knows: owner, foreign (the session is another sandbox's), unattributed.
	ClaimSender Key = "watchglass.claim.sender"
	// TurnID is the agent's own id of the turn.
	TurnID Key = "watchglass.agent.turn.id"
	// ParentSessionID is the session.id of the session that started this one as a sub-agent.
	ParentSessionID Key = "watchglass.agent.parent_session.id"
	// ApprovalMode is the agent's approval policy, as it says.
	ApprovalMode Key = "watchglass.agent.approval_mode"
	// SandboxClaimed is the sandbox that the agent says it applies.
	SandboxClaimed Key = "watchglass.agent.sandbox.claimed"
	// SandboxOutcomeKey is what became of a call in the agent's sandbox: denied, escalated.
	SandboxOutcomeKey Key = "watchglass.agent.sandbox.outcome"
	// AgentCost is what the request cost in US dollars, as the agent says.
	AgentCost Key = "watchglass.agent.cost.usd"
	// AgentAttempt is the number of the attempt, from 0.
	AgentAttempt Key = "watchglass.agent.request.attempt"
	// AgentDuration is how long it took in seconds, as the agent says.
	AgentDuration Key = "watchglass.agent.duration"
	// PromptLength is the prompt's length in characters.
	PromptLength Key = "watchglass.agent.prompt.length"
	// MCPServerName is the server of the Model Context Protocol that was called, or that the process is.
	MCPServerName Key = "watchglass.mcp.server.name"
	// SessionEndReason is why a session ended: exit, claimed, sandbox_gone (or no longer watched), evicted.
	SessionEndReason Key = "watchglass.session.end_reason"
	// SessionDuration is how long the session was, in seconds.
	SessionDuration Key = "watchglass.session.duration"
	// SessionTurns is the number of its turns.
	SessionTurns Key = "watchglass.session.turns"
	// SessionToolCalls is the number of its tool calls.
	SessionToolCalls Key = "watchglass.session.tool_calls"
	// SessionProcesses is the number of its processes.
	SessionProcesses Key = "watchglass.session.processes"
	// ToolPhase is start, end, or joined for what the kernel saw of a call.
	ToolPhase Key = "watchglass.tool.phase"
	// ToolCommand is the command line that the agent says it runs.
	ToolCommand Key = "watchglass.tool.command"
	// ToolWorkingDirectory is the directory in which the agent says it runs it.
	ToolWorkingDirectory Key = "watchglass.tool.working_directory"
	// ToolSuccess is whether the call succeeded, as the agent says; exit code 0 is not meant.
	ToolSuccess Key = "watchglass.tool.success"
	// ToolClaimedExitCode is the exit code, as the agent says; process.exit.code is the kernel's.
	ToolClaimedExitCode Key = "watchglass.tool.claimed_exit_code"
	// ToolRunning is true when the process goes on after the call's result.
	ToolRunning Key = "watchglass.tool.running"
	// ToolProcessGroup is the process group in which the agent says that it ran the command, in its own pid namespace.
	ToolProcessGroup Key = "watchglass.tool.process_group"
	// TraceDetail is what an event of a span tells, in words.
	TraceDetail Key = "watchglass.trace.detail"
	// ToolPaths is the files that the agent says the tool reads or changes.
	ToolPaths Key = "watchglass.tool.paths"
	// ToolShell is the agent's id of a shell that outlives the call which started it.
	ToolShell Key = "watchglass.tool.shell"
	// ToolRoots is the watchglass.process.uid of the processes that the call started.
	ToolRoots Key = "watchglass.tool.root_uids"
	// ToolProcesses is how many processes belonged to the call.
	ToolProcesses Key = "watchglass.tool.processes"
	// ToolFilesRead is how many opens for reading they made.
	ToolFilesRead Key = "watchglass.tool.files_read"
	// ToolFilesWritten is how many opens for writing.
	ToolFilesWritten Key = "watchglass.tool.files_written"
	// ToolConnections is how many connections.
	ToolConnections Key = "watchglass.tool.connections"
	// ApprovalID is the id of what was to be approved.
	ApprovalID Key = "watchglass.approval.id"
	// ApprovalStateKey is requested, granted, denied or expired.
	ApprovalStateKey Key = "watchglass.approval.state"
	// ApprovalSource is who or what decided: user, config, hook, reviewer, unknown.
	ApprovalSource Key = "watchglass.approval.source"
	// ApprovalScope is what the decision holds for: call, session, rule.
	ApprovalScope Key = "watchglass.approval.scope"
	// ApprovalReason is why, as the agent says.
	ApprovalReason Key = "watchglass.approval.reason"
	// PolicyDecisionKey is allow, deny or ask.
	PolicyDecisionKey Key = "watchglass.policy.decision"
	// PolicyID is the policy that decided.
	PolicyID Key = "watchglass.policy.id"
	// PolicySubject is what was decided on.
	PolicySubject Key = "watchglass.policy.subject"
	// PolicyEnforcement is who enforces it: kernel, proxy, hook, none.
	PolicyEnforcement Key = "watchglass.policy.enforcement"
	// PolicyReason is why, as the one who decided says.
	PolicyReason Key = "watchglass.policy.reason"
	// MismatchType is how claim and fact disagree: exit_code, sandbox, command, denied_but_ran, escalated_unapproved,
	// effect_without_call, call_without_effect, claims_stopped, foreign_session, call_conflict,
	// proxy_denied, proxy_bypassed, proxy_elsewhere.
	MismatchType Key = "watchglass.mismatch.type"
	// MismatchClaimed is what was claimed.
	MismatchClaimed Key = "watchglass.mismatch.claimed"
	// MismatchFact is what the kernel saw.
	MismatchFact Key = "watchglass.mismatch.fact"
)

// Attributes of file events.
const (
	// FilePath is the file's path: for a success the kernel's own path of the opened file, else the path that was asked for.
	FilePath Key = "file.path"
	// FileInode is the inode number.
	FileInode Key = "file.inode"
	// FileAccess is what the open asked for: read, write, create, truncate, append, path.
	FileAccess Key = "watchglass.file.access"
	// FileClassKey is the kind of file: secret, config, source, system, tmp, proc, other.
	FileClassKey Key = "watchglass.file.class"
	// FileDevice is the device number of the file system as major:minor.
	FileDevice Key = "watchglass.file.device"
	// FilePathClaimed is true when the path is the caller's word, read from user memory, and not the kernel's.
	FilePathClaimed Key = "watchglass.file.claimed"
	// FileCreated is true when this open made the file.
	FileCreated Key = "watchglass.file.created"
	// FileDeleted is true when the opened file had no name any more: the path is the one it had.
	FileDeleted Key = "watchglass.file.deleted"
	// FileHostPath is the kernel's path of the file on the host, where that is another one than the process sees.
	FileHostPath Key = "watchglass.file.host_path"
	// FileAskedPath is the path that was asked for, the caller's word, where another thread could have replaced the
	// descriptor since and the kernel's path of it is another one: a symlink on the way, or that.
	FileAskedPath Key = "watchglass.file.asked_path"
	// FileCount is how many more opens of the same kind, by the same process, the event tells of, or of how many files at
	// least; absent for one that is told by itself.
	FileCount Key = "watchglass.file.count"
	// FileBytesRead is how many bytes the process read of the file since that was told last.
	FileBytesRead Key = "watchglass.file.io.read"
	// FileBytesWritten is how many bytes it wrote.
	FileBytesWritten Key = "watchglass.file.io.written"
	// FileReads is by how many calls that read any.
	FileReads Key = "watchglass.file.io.reads"
	// FileWrites is by how many calls that wrote any.
	FileWrites Key = "watchglass.file.io.writes"
	// FileMapped is true when the process mapped the file into memory: what goes through that is not counted.
	FileMapped Key = "watchglass.file.io.mapped"
	// FileIOAsked is true when some of it went through io_submit(2) and is counted by what was asked for, the caller's word.
	FileIOAsked Key = "watchglass.file.io.asked"
	// FileStillOpen is true when the process had the file still open, as far as is known.
	FileStillOpen Key = "watchglass.file.io.open"
	// FileRaced is true when another thread has likely put the file in the place of the one that was opened.
	FileRaced Key = "watchglass.file.raced"
	// FileTargetPath is the second path of an operation: the new name of a rename or hard link, the text of a symlink.
	FileTargetPath Key = "watchglass.file.target_path"
	// FileTargetClass is the kind of file that watchglass.file.target_path names.
	FileTargetClass Key = "watchglass.file.target_class"
	// FileOperationKey is what was done: mkdir, mknod, rmdir, unlink, rename, link, symlink, truncate, chmod, chown.
	FileOperationKey Key = "watchglass.file.operation"
	// FileMode is the permission bits that the operation asked for, in octal.
	FileMode Key = "file.mode"
	// FileOwnerID is the user id that the file was given to, in the caller's user namespace.
	FileOwnerID Key = "file.owner.id"
	// FileGroupID is the group id that the file was given to, in the caller's user namespace.
	FileGroupID Key = "file.group.id"
	// FileSize is the length that the file was cut or extended to, in bytes.
	FileSize Key = "file.size"
	// ViaKey is how the operation reached the kernel, where that was no ordinary system call: io_uring, handle
	// (open_by_handle_at).
	ViaKey Key = "watchglass.via"
	// Unfinished is true when there is no result: the kernel had no room to wait for it, or the program wanted to hear of
	// none.
	Unfinished Key = "watchglass.unfinished"
	// ErrorType is the errno name of a failed operation, for example ENOENT.
	ErrorType Key = "error.type"
)

// Attributes of network events.
const (
	// NetworkTransport is tcp or udp.
	NetworkTransport Key = "network.transport"
	// NetworkType is ipv4 or ipv6, of the address as it is on the wire: a v4-mapped address is ipv4.
	NetworkType Key = "network.type"
	// NetworkPeerAddress is the IP address connected to, from the kernel's own copy.
	NetworkPeerAddress Key = "network.peer.address"
	// NetworkPeerPort is the port connected to.
	NetworkPeerPort Key = "network.peer.port"
	// NetworkLocalAddress is the local IP address, when bound.
	NetworkLocalAddress Key = "network.local.address"
	// NetworkLocalPort is the local port, when bound.
	NetworkLocalPort Key = "network.local.port"
	// ServerAddress is the name of the peer, when it is known.
	ServerAddress Key = "server.address"
	// ServerAddressSource is where server.address came from: dns, sni, http_host, proxy.
	ServerAddressSource Key = "watchglass.server.address.source"
	// PeerScope is where the peer is: loopback, private, link_local, metadata, multicast, public.
	PeerScope Key = "watchglass.network.peer.scope"
	// NetworkLatency is the time from the connect to its result in seconds.
	NetworkLatency Key = "watchglass.network.latency"
	// NetworkPeerClaimed is true when the peer is the caller's word: a policy refused the call before the kernel took a copy.
	NetworkPeerClaimed Key = "watchglass.network.claimed"
	// NetworkAbandoned is true when the program closed the socket before its connect had a result.
	NetworkAbandoned Key = "watchglass.network.abandoned"
	// NetworkBytesSent is the payload bytes sent to the peer on this connection.
	NetworkBytesSent Key = "watchglass.network.bytes_sent"
	// NetworkBytesReceived is the payload bytes received from the peer on this connection.
	NetworkBytesReceived Key = "watchglass.network.bytes_received"
	// NetworkDuration is how long the connection was open, in seconds.
	NetworkDuration Key = "watchglass.network.duration"
	// NetworkPacketsSent is the TCP segments sent, those without payload included.
	NetworkPacketsSent Key = "watchglass.network.packets_sent"
	// NetworkPacketsReceived is the TCP segments received.
	NetworkPacketsReceived Key = "watchglass.network.packets_received"
	// NetworkRetransmits is the TCP segments that were sent again.
	NetworkRetransmits Key = "watchglass.network.retransmits"
	// NetworkRTT is the smoothed round-trip time at the end, in seconds.
	NetworkRTT Key = "watchglass.network.rtt"
	// NetworkEndReason is how the connection ended: local, peer (who closed first), reset (by the peer), timeout,
	// aborted (given up here).
	NetworkEndReason Key = "watchglass.network.end_reason"
	// NetworkContinuing is true when the connection goes on: its numbers are those so far, and are part of those of its
	// next event. Who sums up takes the last one alone.
	NetworkContinuing Key = "watchglass.network.continuing"
	// NetworkInbound is true when the peer connected to the sandbox.
	NetworkInbound Key = "watchglass.network.inbound"
	// NetworkProtocolName is the protocol that the first bytes speak: tls, quic, http.
	NetworkProtocolName Key = "network.protocol.name"
	// TLSNextProtocols is the protocols that a TLS client offers to speak (ALPN), in its order.
	TLSNextProtocols Key = "watchglass.tls.client.alpn"
	// HTTPRequestMethod is the method of the first HTTP/1 request.
	HTTPRequestMethod Key = "http.request.method"
	// SocketOperationKey is what was done with the socket: socket, bind, listen, accept, connect.
	SocketOperationKey Key = "watchglass.socket.operation"
	// SocketFamily is the socket's address family: inet, inet6, unix, netlink, packet, vsock.
	SocketFamily Key = "watchglass.socket.family"
	// SocketType is the socket's type: stream, dgram, raw, seqpacket.
	SocketType Key = "watchglass.socket.type"
	// SocketProtocol is the number of the protocol within the family.
	SocketProtocol Key = "watchglass.socket.protocol"
	// SocketName is the address of a socket that is not IP: a path, @name for an abstract one, cid:port of vsock.
	SocketName Key = "watchglass.socket.name"
	// SocketPeerPID is the process that made the other end of a unix socket, in the initial PID namespace.
	SocketPeerPID Key = "watchglass.socket.peer_pid"
	// SocketBacklog is how many connections may wait to be accepted.
	SocketBacklog Key = "watchglass.socket.backlog"
)

// Attributes of name look-ups.
const (
	// DNSQuestionName is the name that was asked for, in lower case, without the final dot.
	DNSQuestionName Key = "dns.question.name"
	// DNSQuestionType is the type of record that was asked for.
	DNSQuestionType Key = "watchglass.dns.question.type"
	// DNSAnswers is the addresses of the answer.
	DNSAnswers Key = "dns.answers"
	// DNSRecords is all records of the answer, each as name, seconds to live, type and data.
	DNSRecords Key = "watchglass.dns.records"
	// DNSResponseCode is the response code, for example NOERROR or NXDOMAIN; absent without an answer.
	DNSResponseCode Key = "watchglass.dns.response_code"
)

// Attributes of system call summaries.
const (
	// SyscallWindow is the length of the summarised interval in seconds.
	SyscallWindow Key = "watchglass.syscall.window"
	// SyscallCounts is how often each system call was made in the interval.
	SyscallCounts Key = "watchglass.syscall.counts"
	// SyscallErrors is how often each system call failed in the interval.
	SyscallErrors Key = "watchglass.syscall.errors"
	// SyscallProcesses is how many of the calls were made by which process, by its UID; _other is the rest.
	SyscallProcesses Key = "watchglass.syscall.processes"
	// SyscallOther is how many more calls the process made, of kinds that found no room of their own.
	SyscallOther Key = "watchglass.syscall.other"
	// SyscallTime is how long the calls of each name took together, in nanoseconds, by the clock: waiting is in it.
	SyscallTime Key = "watchglass.syscall.time"
	// SyscallLatencies is how many calls took how long, by their name, a space and up to how many nanoseconds: powers of
	// two of a second, +Inf beyond 16 s. The name is _all where it is of all calls together.
	SyscallLatencies Key = "watchglass.syscall.latencies"
	// SyscallUntimed is how many of the calls are of unknown duration.
	SyscallUntimed Key = "watchglass.syscall.untimed"
)

// Attributes of resource usage. Times, bytes and counts are since the cgroup was made.
const (
	// ResourceSource is the kinds of cgroup that counted: cgroup2, cgroup1. What neither counts is absent, which is not zero.
	ResourceSource Key = "watchglass.resource.source"
	// ResourceCPUTime is the processor time in seconds.
	ResourceCPUTime Key = "watchglass.resource.cpu.time"
	// ResourceCPUUser is the part of it in user mode.
	ResourceCPUUser Key = "watchglass.resource.cpu.user"
	// ResourceCPUSystem is the part of it in the kernel.
	ResourceCPUSystem Key = "watchglass.resource.cpu.system"
	// ResourceCPUPeriods is how many periods of the processor quota passed.
	ResourceCPUPeriods Key = "watchglass.resource.cpu.periods"
	// ResourceCPUThrottled is in how many of them the quota was used up.
	ResourceCPUThrottled Key = "watchglass.resource.cpu.throttled.periods"
	// ResourceCPUThrottledTime is for how long processes had to wait for the next period, in seconds.
	ResourceCPUThrottledTime Key = "watchglass.resource.cpu.throttled.time"
	// ResourceMemoryUsage is the memory in use in bytes, the page cache of its files included.
	ResourceMemoryUsage Key = "watchglass.resource.memory.usage"
	// ResourceMemoryPeak is the most that was in use.
	ResourceMemoryPeak Key = "watchglass.resource.memory.peak"
	// ResourceMemoryLimit is how much may be; absent when there is no limit.
	ResourceMemoryLimit Key = "watchglass.resource.memory.limit"
	// ResourceMemoryAnonymous is the part of the usage that belongs to no file.
	ResourceMemoryAnonymous Key = "watchglass.resource.memory.anonymous"
	// ResourceMemoryFile is the part of the usage that is the page cache.
	ResourceMemoryFile Key = "watchglass.resource.memory.file"
	// ResourceMemorySwap is what is swapped out, in bytes.
	ResourceMemorySwap Key = "watchglass.resource.memory.swap"
	// ResourceMemoryMajorFaults is how many accesses to memory had to wait for a disk.
	ResourceMemoryMajorFaults Key = "watchglass.resource.memory.major_faults"
	// ResourceOOMKills is how many processes the kernel killed for lack of memory.
	ResourceOOMKills Key = "watchglass.resource.memory.oom_kills"
	// ResourceIOReadBytes is the bytes read from block devices.
	ResourceIOReadBytes Key = "watchglass.resource.io.read_bytes"
	// ResourceIOWrittenBytes is the bytes written to block devices.
	ResourceIOWrittenBytes Key = "watchglass.resource.io.written_bytes"
	// ResourceIOReads is the read operations of block devices.
	ResourceIOReads Key = "watchglass.resource.io.reads"
	// ResourceIOWrites is the write operations of block devices.
	ResourceIOWrites Key = "watchglass.resource.io.writes"
	// ResourceTasks is the number of processes and threads.
	ResourceTasks Key = "watchglass.resource.tasks"
	// ResourceTasksLimit is how many there may be; absent when there is no limit.
	ResourceTasksLimit Key = "watchglass.resource.tasks.limit"
	// PressureCPUSome is for how long some tasks stood still for lack of a processor, in seconds.
	PressureCPUSome Key = "watchglass.resource.pressure.cpu.some"
	// PressureCPUFull is for how long all tasks that wanted to run did.
	PressureCPUFull Key = "watchglass.resource.pressure.cpu.full"
	// PressureMemorySome is for how long some tasks stood still for lack of memory, in seconds.
	PressureMemorySome Key = "watchglass.resource.pressure.memory.some"
	// PressureMemoryFull is for how long all tasks that wanted to run did.
	PressureMemoryFull Key = "watchglass.resource.pressure.memory.full"
	// PressureIOSome is for how long some tasks stood still waiting for block devices, in seconds.
	PressureIOSome Key = "watchglass.resource.pressure.io.some"
	// PressureIOFull is for how long all tasks that wanted to run did.
	PressureIOFull Key = "watchglass.resource.pressure.io.full"
)

// Attributes of sandboxes: the resource of an event, and their start and stop.
const (
	// SandboxID is the identity of the sandbox: a hash of boot id and cgroup.
	SandboxID Key = "watchglass.sandbox.id"
	// SandboxName is the name given to the sandbox, or its cgroup's last element.
	SandboxName Key = "watchglass.sandbox.name"
	// SandboxRuntime is what made the sandbox: watchglass, cgroup.
	SandboxRuntime Key = "watchglass.sandbox.runtime"
	// SandboxCgroup is the sandbox's cgroup path below the cgroup2 mount.
	SandboxCgroup Key = "watchglass.sandbox.cgroup"
	// SandboxProcesses is the number of processes: alive at the start of watching, or seen in total at its stop.
	SandboxProcesses Key = "watchglass.sandbox.processes"
	// SandboxOutlived is the number of processes still alive at the stop.
	SandboxOutlived Key = "watchglass.sandbox.outlived"
	// SandboxOutlivers is the names of the first of those, as name[pid].
	SandboxOutlivers Key = "watchglass.sandbox.outlivers"
	// SandboxLeft is how many of the processes that were alive at the end of a sandbox nobody has ended since.
	SandboxLeft Key = "watchglass.sandbox.left"
	// HostName is the node's host name.
	HostName Key = "host.name"
	// HostID is the node's machine id.
	HostID Key = "host.id"
	// ServiceName is the program that emits the telemetry: watchglass.
	ServiceName Key = "service.name"
	// ServiceVersion is the version of that program.
	ServiceVersion Key = "service.version"
	// ServiceInstanceID is unique per start of that program.
	ServiceInstanceID Key = "service.instance.id"
	// OSType is linux.
	OSType Key = "os.type"
)

// Attributes of a sandbox's posture.
const (
	// PostureUserID is the user id of the sandbox's first process, in the initial user namespace.
	PostureUserID Key = "watchglass.posture.user.id"
	// PostureInitialUserNS is true when the sandbox has no user namespace of its own.
	PostureInitialUserNS Key = "watchglass.posture.initial_user_namespace"
	// PostureNoNewPrivs is true when set-user-id programs give no privileges.
	PostureNoNewPrivs Key = "watchglass.posture.no_new_privs"
	// PostureSeccomp is disabled, strict or filter.
	PostureSeccomp Key = "watchglass.posture.seccomp"
	// PostureNetwork is none (nothing but loopback), host (the machine's), own, or unknown.
	PostureNetwork Key = "watchglass.posture.network"
	// PostureMetadata is true when there is a route to the cloud's metadata service.
	PostureMetadata Key = "watchglass.posture.metadata_route"
	// PostureCapabilities is the effective capabilities.
	PostureCapabilities Key = "watchglass.posture.capabilities"
	// PostureNamespaces is the kinds of namespaces that the sandbox shares with the machine.
	PostureNamespaces Key = "watchglass.posture.host_namespaces"
	// PostureMounts is the mount points of the machine's file systems that can be written to.
	PostureMounts Key = "watchglass.posture.writable_host_mounts"
	// PostureSockets is the container runtimes' sockets within reach.
	PostureSockets Key = "watchglass.posture.runtime_sockets"
	// PostureDevices is the dangerous devices within reach.
	PostureDevices Key = "watchglass.posture.devices"
	// PosturePidsLimit is how many processes the cgroup may have; absent for no limit.
	PosturePidsLimit Key = "watchglass.posture.pids_limit"
	// PostureMemoryLimit is how much memory the cgroup may have, in bytes; absent for no limit.
	PostureMemoryLimit Key = "watchglass.posture.memory_limit"
	// PostureWeaknesses is what the set-up leaves open, the gravest first.
	PostureWeaknesses Key = "watchglass.posture.weaknesses"
)

// Attributes of findings.
const (
	// FindingID identifies the finding; its updates carry the same id.
	FindingID Key = "watchglass.finding.id"
	// FindingTitle is what happened in one line.
	FindingTitle Key = "watchglass.finding.title"
	// FindingSeverity is info, low, medium, high or critical.
	FindingSeverity Key = "watchglass.finding.severity"
	// FindingStatus is new, update or resolved.
	FindingStatus Key = "watchglass.finding.status"
	// FindingExplanation is one or more sentences with the names and numbers a responder needs.
	FindingExplanation Key = "watchglass.finding.explanation"
	// FindingEvidence is the log.record.uid of the events that decided it.
	FindingEvidence Key = "watchglass.finding.evidence"
	// FindingAttack is the MITRE ATT&CK technique ids.
	FindingAttack Key = "watchglass.finding.attack"
	// FindingASI is the OWASP agentic threat ids.
	FindingASI Key = "watchglass.finding.owasp_agentic"
	// FindingRunbook is where to read what to do next.
	FindingRunbook Key = "watchglass.finding.runbook"
	// FindingCount is how often the same finding was seen so far.
	FindingCount Key = "watchglass.finding.count"
	// FindingObjects is the objects touched: paths, destinations.
	FindingObjects Key = "watchglass.finding.objects"
	// FindingConfidenceKey is how seldom the detector is wrong: high, medium, low.
	FindingConfidenceKey Key = "watchglass.finding.confidence"
	// FindingChain is the names of the processes, the oldest known ancestor first and the one that did it last.
	FindingChain Key = "watchglass.finding.process_chain"
	// FindingPrompt is the beginning of the prompt of the turn. Told only on request.
	FindingPrompt Key = "watchglass.finding.prompt"
	// FindingNext is what to check next, the first thing first.
	FindingNext Key = "watchglass.finding.next"
	// SecurityRuleName is the detector's id.
	SecurityRuleName Key = "security_rule.name"
	// SecurityRuleUUID is the detector's stable unique id.
	SecurityRuleUUID Key = "security_rule.uuid"
	// SecurityRuleVersion is the detector's version.
	SecurityRuleVersion Key = "security_rule.version"
	// SecurityRuleRulesetName is the set the detector belongs to.
	SecurityRuleRulesetName Key = "security_rule.ruleset.name"
)

// Attributes of the collector's probes.
const (
	// ProbeName is the probe's name.
	ProbeName Key = "watchglass.probe.name"
	// ProbeStateKey is how well it works: attached, fallback (it tells everything, and every process of the node pays for it) or degraded.
	ProbeStateKey Key = "watchglass.probe.state"
	// ProbePlan is the hook plan by which it sees system calls: tracepoint or trampoline.
	ProbePlan Key = "watchglass.probe.plan"
	// ProbeReason is why it does not work as it should.
	ProbeReason Key = "watchglass.probe.reason"
	// ProbeLost is the kinds of records of which some or all are missing.
	ProbeLost Key = "watchglass.probe.lost"
	// TakeoverHow is what a collector keeps of what the one before left at work: adopted (all), updated (maps and ring, with other programs) or replaced (nothing but the ring's records).
	TakeoverHow Key = "watchglass.takeover.how"
	// TakeoverRing is what becomes of records that waited: continued, read (from a ring that is no longer used) or discarded (counted as lost, since their form is another).
	TakeoverRing Key = "watchglass.takeover.ring"
	// TakeoverUnread is how many bytes of records waited.
	TakeoverUnread Key = "watchglass.takeover.unread"
	// TakeoverSandboxes is how many sandboxes the collector before watched.
	TakeoverSandboxes Key = "watchglass.takeover.sandboxes"
	// TakeoverVersion is the version of the collector before.
	TakeoverVersion Key = "watchglass.takeover.version"
	// TakeoverPID is the process id that it had.
	TakeoverPID Key = "watchglass.takeover.pid"
)

// Attributes of gaps.
const (
	// GapDuration is for how long the collector did not run, in seconds.
	GapDuration Key = "watchglass.gap.duration"
	// GapExpected is how often it looks, in seconds.
	GapExpected Key = "watchglass.gap.expected"
	// GapWaited is for how many seconds of it a thread of the collector's could have run and got no processor.
	GapWaited Key = "watchglass.gap.waited"
)

// Attributes of losses.
const (
	// LossStage is where events were lost: ring, queue, decode, export, journal.
	LossStage Key = "watchglass.loss.stage"
	// LossKind is the kind of the lost events, or the probe when the kind is not known, or the exporter or destination that missed them.
	LossKind Key = "watchglass.loss.kind"
	// LossCount is how many events were lost since the previous report.
	LossCount Key = "watchglass.loss.count"
	// LossSince is when the interval began in which they were lost (RFC 3339, UTC); it ends at the event's time.
	LossSince Key = "watchglass.loss.since"
	// LossReason is why: ring_full, budget (the sandbox's own), missed (the kernel could not run a program), queue_full, malformed, unknown_sandbox, refused, given_up, rejected;
	// at the journal crash, torn, evicted, damaged, disk_full, write_failed, too_large.
	LossReason Key = "watchglass.loss.reason"
)
