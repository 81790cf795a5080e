// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"slices"

	"github.com/watchglass/watchglass/event"
)

// mapping is what an attribute is called in the other schemas; "" when they have no field for it, and it keeps
// its own name. In the paths of OCSF @process, @parent and @actor are where a class has them, and a path whose
// first element is none of the class's is not used in it.
type mapping struct {
	key    event.Key
	ecs    string
	ecsAs  form
	ocsf   string
	ocsfAs form
}

// table is the one mapping of attributes, in the order in which fields are written. An attribute may stand in
// it more than once.
func table() []mapping {
	return slices.Concat(ofEvents(), ofProcesses(), ofAgents(), ofFiles(), ofNetworks(), ofFindings())
}

func ofEvents() []mapping {
	return []mapping{
		{event.LogRecordUID, "event.id", asIs, "metadata.uid", asIs},
		{event.EventSeq, "event.sequence", asIs, "metadata.sequence", asIs},
		{event.OtelEventName, "event.code", asIs, "metadata.event_code", asIs},
		{event.ServiceVersion, "agent.version", asIs, "metadata.product.version", asIs},
		{event.ServiceInstanceID, "agent.ephemeral_id", asIs, "metadata.log_source", asIs},
		{event.ServiceName, "agent.type", asIs, "metadata.log_provider", asIs},
		{event.CaptureTruncated, "", asIs, "metadata.is_truncated", asIs},
		{event.HostName, "host.name", asIs, "device.hostname", asIs},
		{event.HostID, "host.id", asIs, "device.uid", asIs},
		{event.OSType, "host.os.type", asIs, "device.os.name", asIs},
	}
}

func ofProcesses() []mapping {
	return []mapping{
		{event.ProcessPID, "process.pid", asIs, "@process.pid", asIs},
		{event.ProcessUID, "process.entity_id", asIs, "@process.uid", asIs},
		{event.ProcessCreationTime, "process.start", asIs, "@process.created_time", asMillis},
		{event.ProcessExitTime, "process.end", asIs, "@process.terminated_time", asMillis},
		{event.ProcessExecutableName, "process.name", asIs, "@process.name", asIs},
		{event.ProcessExecutablePath, "process.executable", asIs, "@process.path", asIs},
		{event.ProcessExecutablePath, "", asIs, "@process.file.path", asIs},
		{event.ProcessExecutablePath, "", asIs, "@process.file.name", asBase},
		{event.ProcessCommandArgs, "process.command_line", asCommand, "@process.cmd_line", asCommand},
		{event.ProcessCommandArgs, "process.args", asIs, "", asIs},
		{event.ProcessSHA256, "process.hash.sha256", asIs, "@process.file.hashes[].value", asIs},
		{event.ProcessArgsCount, "process.args_count", asIs, "", asIs},
		{event.ProcessWorkingDirectory, "process.working_directory", asIs, "@process.working_directory", asIs},
		{event.ProcessVPID, "process.vpid", asIs, "", asIs},
		{event.ProcessExitCode, "process.exit_code", asIs, "exit_code", asIs},
		{event.ProcessUserID, "process.user.id", asText, "@process.user.uid", asText},
		{event.ProcessGroupID, "process.group.id", asText, "", asIs},
		{event.ProcessRealUserID, "process.real_user.id", asText, "", asIs},
		{event.ProcessSavedUserID, "process.saved_user.id", asText, "", asIs},
		{event.ProcessGroupLeaderPID, "process.group_leader.pid", asIs, "", asIs},
		{event.ProcessSessionLeaderPID, "process.session_leader.pid", asIs, "", asIs},
		{event.ProcessParentPID, "process.parent.pid", asIs, "@parent.pid", asIs},
		{event.ProcessParentUID, "process.parent.entity_id", asIs, "@parent.uid", asIs},
		{event.ProcessDuration, "event.duration", asNanosOf, "duration", asMillisOf},
		{event.SandboxName, "", asIs, "@process.sandbox", asIs},
		{event.SandboxName, "", asIs, "src_endpoint.name", asIs},
		{event.SandboxID, "", asIs, "src_endpoint.uid", asIs},
	}
}

func ofAgents() []mapping {
	return []mapping{
		{event.GenAIAgentName, "gen_ai.agent.name", asIs, "@actor.app_name", asIs},
		{event.GenAIAgentID, "gen_ai.agent.id", asIs, "", asIs},
		{event.SessionID, "", asIs, "@actor.session.uid", asIs},
		{event.GenAIToolCallID, "gen_ai.tool.call.id", asIs, "api.request.uid", asIs},
		{event.GenAIToolName, "gen_ai.tool.name", asIs, "api.operation", asIs},
		{event.GenAIToolType, "gen_ai.tool.type", asIs, "", asIs},
		{event.GenAIOperationName, "gen_ai.operation.name", asIs, "api.operation", asIs},
		{event.GenAIRequestModel, "gen_ai.request.model", asIs, "", asIs},
		{event.GenAIResponseModel, "gen_ai.response.model", asIs, "", asIs},
		{event.GenAIResponseID, "gen_ai.response.id", asIs, "", asIs},
		{event.GenAIProviderName, "gen_ai.system", asIs, "api.service.name", asIs},
		{event.GenAIInputTokens, "gen_ai.usage.input_tokens", asIs, "", asIs},
		{event.GenAIOutputTokens, "gen_ai.usage.output_tokens", asIs, "", asIs},
		{event.MCPServerName, "", asIs, "api.service.name", asIs},
		{event.ToolClaimedExitCode, "", asIs, "api.response.code", asIs},
		{event.HTTPResponseStatusCode, "http.response.status_code", asIs, "http_response.code", asIs},
		{event.ErrorMessage, "error.message", asIs, "api.response.error_message", asIs},
		{event.ErrorMessage, "", asIs, "status_detail", asIs},
		{event.ErrorType, "error.type", asIs, "status_code", asIs},
		{event.AgentDuration, "event.duration", asNanosOf, "duration", asMillisOf},
		{event.SessionDuration, "event.duration", asNanosOf, "duration", asMillisOf},
		{event.ApprovalReason, "event.reason", asIs, "status_detail", asIs},
		{event.PolicyReason, "event.reason", asIs, "status_detail", asIs},
	}
}

func ofFiles() []mapping {
	return []mapping{
		{event.FilePath, "file.path", asIs, "file.path", asIs},
		{event.FilePath, "file.name", asBase, "file.name", asBase},
		{event.FilePath, "file.directory", asDirectory, "file.parent_folder", asDirectory},
		{event.FileInode, "file.inode", asIs, "file.uid", asIs},
		{event.FileDevice, "file.device", asIs, "", asIs},
		{event.FileMode, "file.mode", asIs, "", asIs},
		{event.FileSize, "file.size", asIs, "file.size", asIs},
		{event.FileOwnerID, "file.uid", asText, "file.owner.uid", asText},
		{event.FileGroupID, "file.gid", asText, "", asIs},
		{event.FileTargetPath, "file.target_path", asIs, "file_result.path", asIs},
		{event.FileTargetPath, "", asIs, "file_result.name", asBase},
	}
}

func ofNetworks() []mapping {
	return []mapping{
		{event.NetworkTransport, "network.transport", asIs, "connection_info.protocol_name", asIs},
		{event.NetworkType, "network.type", asIs, "connection_info.protocol_ver_id", asVersion},
		{event.NetworkPeerAddress, "destination.ip", asIs, "dst_endpoint.ip", asIs},
		{event.NetworkPeerAddress, "destination.address", asIs, "", asIs},
		{event.NetworkPeerPort, "destination.port", asIs, "dst_endpoint.port", asIs},
		{event.NetworkLocalAddress, "source.ip", asIs, "src_endpoint.ip", asIs},
		{event.NetworkLocalAddress, "source.address", asIs, "", asIs},
		{event.NetworkLocalPort, "source.port", asIs, "src_endpoint.port", asIs},
		{event.ServerAddress, "destination.domain", asIs, "dst_endpoint.hostname", asIs},
		{event.ServerPort, "destination.port", asIs, "dst_endpoint.port", asIs},
		{event.ClientAddress, "client.ip", asIs, "src_endpoint.ip", asIs},
		{event.ClientAddress, "client.address", asIs, "", asIs},
		{event.ClientPort, "client.port", asIs, "src_endpoint.port", asIs},
		{event.NetworkBytesSent, "source.bytes", asIs, "traffic.bytes_out", asIs},
		{event.NetworkBytesReceived, "destination.bytes", asIs, "traffic.bytes_in", asIs},
		{event.NetworkPacketsSent, "source.packets", asIs, "traffic.packets_out", asIs},
		{event.NetworkPacketsReceived, "destination.packets", asIs, "traffic.packets_in", asIs},
		{event.NetworkProtocolName, "network.protocol", asIs, "", asIs},
		{event.HTTPRequestMethod, "http.request.method", asIs, "", asIs},
		{event.DNSQuestionName, "dns.question.name", asIs, "query.hostname", asIs},
		{event.DNSQuestionType, "dns.question.type", asIs, "query.type", asIs},
		{event.DNSResponseCode, "dns.response_code", asIs, "", asIs},
		{event.DNSAnswers, "dns.resolved_ip", asIs, "", asIs},
		{event.NetworkDuration, "event.duration", asNanosOf, "duration", asMillisOf},
		{event.NetworkLatency, "event.duration", asNanosOf, "duration", asMillisOf},
		{event.SyscallWindow, "event.duration", asNanosOf, "duration", asMillisOf},
	}
}

func ofFindings() []mapping {
	return []mapping{
		{event.FindingID, "", asIs, "finding_info.uid", asIs},
		{event.FindingTitle, "rule.description", asIs, "finding_info.title", asIs},
		{event.FindingExplanation, "event.reason", asIs, "finding_info.desc", asIs},
		{event.FindingRunbook, "rule.reference", asIs, "finding_info.src_url", asIs},
		{event.FindingCount, "", asIs, "count", asIs},
		{event.SecurityRuleName, "rule.name", asIs, "finding_info.analytic.name", asIs},
		{event.SecurityRuleUUID, "rule.uuid", asIs, "finding_info.analytic.uid", asIs},
		{event.SecurityRuleVersion, "rule.version", asIs, "finding_info.analytic.version", asIs},
		{event.SecurityRuleRulesetName, "rule.ruleset", asIs, "finding_info.analytic.category", asIs},
	}
}
