// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"net/netip"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Claims is one of each claim, with everything said.
func Claims() []event.Payload {
	claim := event.Claim{
		Agent: "codex", Version: "0.46", Session: "s-1", Conversation: "c-1", Turn: "t-1", SubAgent: "reviewer",
		ParentSession: "s-0", Channel: event.ChannelLog, TimeSource: event.TimeRecord, Received: Start(),
		Sender: event.SenderOwner, TraceID: [16]byte{1, 15: 2}, SpanID: [8]byte{3, 7: 4},
	}
	traceOnly := claim
	traceOnly.SpanID = [8]byte{}
	peer := netip.MustParseAddrPort("[2001:db8::1]:443")
	return []event.Payload{
		&event.SessionStart{Claim: claim, Provider: "openai", Model: "m", ApprovalMode: "on-request", Sandbox: "workspace-write"},
		&event.SessionEnd{Claim: claim, Reason: "exit", Duration: time.Minute, Turns: 1, ToolCalls: 2, Processes: 3},
		&event.Prompt{Claim: traceOnly, Length: 3, Text: "fix\xffit"},
		&event.ModelRequest{
			Claim: claim, Provider: "openai", Model: "m", ResponseModel: "m-1", ResponseID: "r", Input: 1, Output: 2,
			Reasoning: 3, CacheRead: 4, CacheCreation: 5, CostUSD: 0.25, Duration: time.Second, FirstChunk: time.Millisecond,
			Status: 200, Attempt: 1, Error: "none",
		},
		&event.ToolCall{
			Claim: claim, Phase: event.PhaseJoined, ID: "call_1", Name: "exec", Type: "function", MCPServer: "m",
			Command: "make", WorkingDirectory: "/src", Arguments: "{}", Result: "ok", Outcome: event.OutcomeFailure,
			HasExit: true, ClaimedExit: -1, Error: "x", Duration: time.Second, Running: true, Roots: []event.ProcessID{1, 1 << 63},
			Method: "env", Confidence: "exact", Exited: true, ExitCode: 2,
			Totals: event.ToolTotals{Processes: 1, FilesRead: 2, FilesWritten: 3, Connections: 4, BytesSent: 5, BytesReceived: 6},
		},
		&event.Approval{
			Claim: claim, ID: "a", CallID: "call_1", Tool: "exec", Command: "rm -r /", State: event.ApprovalDenied,
			Decider: "user", Scope: "call", Reason: "no", Latency: time.Second,
		},
		&event.PolicyDecision{
			Claim: claim, Decision: event.DecisionDeny, Policy: "p", Subject: "example.org", Reason: "r", Enforcement: "proxy",
			Server: "example.org", ServerPort: 443, Client: peer, Transport: event.TransportTCP,
		},
		&event.SandboxOutcome{Claim: claim, CallID: "call_1", Tool: "exec", Outcome: "denied", Duration: time.Second},
		&event.AgentError{Claim: claim, Type: "api_error", Message: "overloaded", Status: 529},
		&event.ClaimMismatch{
			Claim: claim, Type: event.MismatchExitCode, CallID: "call_1", Tool: "exec", Claimed: "0", Fact: "7",
			Method: "env", Confidence: "exact", Roots: []event.ProcessID{1},
		},
	}
}

// Others is what the session lacks: changes of files, what is mapped to be run, and what a sandbox may do.
func Others() []event.Payload {
	const none = ^uint32(0)
	peer, local := netip.MustParseAddrPort("192.0.2.7:53"), netip.MustParseAddrPort("10.0.0.2:8080")
	return []event.Payload{
		&event.FileChange{Operation: event.FileMkdir, Path: "/src/build", Claimed: true, Asked: 0o755, Class: event.FileClassSource},
		&event.FileChange{Operation: event.FileUnlink, Path: "/src/old.go", Claimed: true, Class: event.FileClassSource},
		&event.FileChange{Operation: event.FileUnlink, Path: "/etc/passwd", Claimed: true, Error: 13, Class: event.FileClassSystem},
		&event.FileIO{
			Path: "/src/data.bin", Read: 8192, Reads: 2, Written: 1 << 20, Writes: 16, Mapped: true, Inode: 11, Device: 8<<20 | 1,
			Class: event.FileClassSource,
		},
		&event.FileIO{Files: 3, Read: 4096, Reads: 3},
		&event.FileChange{
			Operation: event.FileRenamed, Path: "/src/a.go", Target: "/src/b.go", Claimed: true,
			Class: event.FileClassSource, TargetClass: event.FileClassSource,
		},
		&event.FileChange{Operation: event.FileSymlink, Path: "/src/link", Target: "/etc/shadow", Claimed: true, TargetClass: event.FileClassSecret},
		&event.FileChange{Operation: event.FileTruncate, Path: "/src/log", Length: 4096, Inode: 9, Device: 8<<20 | 1, Unfinished: true},
		&event.FileChange{Operation: event.FileChmod, Path: "/src/run.sh", Asked: 0o4755, Owner: none, Group: none},
		&event.FileChange{Operation: event.FileChown, Path: "/src/run.sh", Owner: 0, Group: none},
		&event.FileMap{Path: "/usr/lib/libc.so.6", Inode: 10, Device: 8<<20 | 1, Class: event.FileClassSystem},
		&event.ProcessExec{
			Args: []string{"id"}, ArgsCount: 1, Executable: "/usr/bin/id",
			Privileges: &event.Privileges{
				Credentials: event.Credentials{Effective: 1 << 21, UserID: 1}, Namespaces: event.Namespaces{Net: 4026531840, Own: []string{"net"}},
				Seccomp: event.SeccompFilter, SeccompFilters: 1,
			},
		},
		&event.DNSQuery{
			Name: "example.com", Type: "A", Transport: event.TransportUDP, Server: peer, Code: "NOERROR",
			Records:   []event.DNSRecord{{Name: "example.com", TTL: time.Minute, Type: "A", Data: "192.0.2.7"}},
			Addresses: []netip.Addr{peer.Addr()}, Latency: time.Millisecond,
		},
		&event.DNSQuery{Name: "gone.example", Type: "AAAA", Transport: event.TransportUDP, Server: peer},
		&event.NetworkSocket{Operation: "listen", Family: "inet", Type: "stream", Protocol: 6, Local: local, Backlog: 128},
		&event.NetworkSocket{Operation: "accept", Family: "inet", Type: "stream", Protocol: 6, Local: local, Peer: peer},
		&event.NetworkSocket{Operation: "connect", Family: "unix", Type: "stream", Name: "/run/docker.sock", PeerPID: 1},
		&event.NetworkRequest{
			Transport: event.TransportTCP, Peer: peer, Local: local, Protocol: "tls", Name: "example.com", Source: "sni",
			ALPN: []string{"h2"},
		},
		&event.NetworkFlow{Transport: event.TransportTCP, Peer: peer, Local: local, Sent: 10, Received: 20, SentPackets: 1, ReceivedPackets: 2, Inbound: true},
		&event.NetworkFlow{Transport: event.TransportTCP, Peer: peer, Local: local, Sent: 10, Received: 20, ToldSent: 5, Continuing: true},
		&event.TurnEnd{Claim: event.Claim{Agent: "codex", Session: "s-1", Turn: "t-1", Channel: event.ChannelHook}},
		&event.SandboxPosture{
			UserID: 0, InitialUserNS: true, Capabilities: []string{"CAP_SYS_ADMIN"}, Seccomp: "disabled", Network: "own",
			HostNamespaces: []string{"user"}, WritableMounts: []string{"/host"}, Sockets: []string{"/run/docker.sock"},
			PidsLimit: 100, MemoryLimit: 1 << 30,
		},
	}
}
