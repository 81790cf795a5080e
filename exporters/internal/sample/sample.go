// SPDX-License-Identifier: Apache-2.0

// Package sample is a short session with one event of every kind, some of them with hostile bytes, for
// the tests of the exporters. It owns nothing else and must not be imported outside of tests.
package sample

import (
	"net/netip"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Start is the time of the first event.
func Start() time.Time { return time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC) }

// Sandbox is where the session runs.
func Sandbox() *event.Sandbox {
	return &event.Sandbox{
		ID: "5a5d0b17c0de0001", Name: "fix-the-parser", Runtime: "watchglass",
		Cgroup: "/watchglass/fix-the-parser", CgroupID: 4711, Started: Start(),
	}
}

// Resource is what a program passes as its own resource attributes.
func Resource() []event.Attribute {
	return []event.Attribute{
		{Key: event.ServiceName, Value: event.String("watchglass")},
		{Key: event.ServiceVersion, Value: event.String("0.1.0")},
		{Key: event.HostName, Value: event.String("build-7")},
	}
}

// Rule is a detector's declaration.
func Rule() *event.Rule {
	return &event.Rule{
		ID: "secret-read", UUID: "6e5f1c1e-7a8b-4a57-9d9b-0d3f6c1f7a10", Version: "1",
		Title: "A secret was read", Severity: event.SeverityHigh,
		Attack: []string{"T1552.001"}, ASI: []string{"ASI03"},
		Next: []string{"Look at what was sent <afterwards>.", "Rotate the secret."}, Runbook: "detectors/secret-read.md",
	}
}

// Process is the process that most events come from.
func Process() *event.Process {
	agent := &event.Agent{
		Name: "codex", SessionID: "0199-session", ConversationID: "0199-thread", CallID: "call_7",
		TraceID: [16]byte{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36},
		SpanID:  [8]byte{0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7},
		Method:  "env", Confidence: "exact",
	}
	parent := &event.Process{UID: 0xa0, PID: 4200, Name: "codex", Executable: "/usr/bin/codex", Start: Start()}
	return &event.Process{
		UID: 0xa1, ParentUID: 0xa0, RootUID: 0xa1, PID: 4242, ParentPID: 4200, VPID: 17, UserID: 1000, GroupID: 1000,
		Start: Start(), Executable: "/usr/bin/bash", Name: "bash", Args: []string{"bash", "-lc", "make test"},
		Agent: agent, Parent: parent,
	}
}

// Usage is what the sandbox used: all that can be counted but a quota of processor time.
func Usage() *event.ResourceUsage {
	return &event.ResourceUsage{
		Sources: []string{"cgroup2", "cgroup1"},
		CPU:     &event.CPUUsage{Total: 1500 * time.Millisecond, User: time.Second, System: 500 * time.Millisecond},
		Memory: &event.MemoryUsage{
			Current: 3 << 20, Peak: 5 << 20, Limit: 64 << 20, Anonymous: 1 << 20, File: 2 << 20, MajorFaults: 3, OOMKills: 1,
		},
		IO:    &event.IOUsage{ReadBytes: 8192, WrittenBytes: 4096, Reads: 2, Writes: 1},
		Tasks: &event.TaskUsage{Current: 4, Limit: 100},
		Pressure: event.Pressures{
			CPU: &event.Pressure{Some: 20 * time.Millisecond}, Memory: &event.Pressure{Some: 2 * time.Millisecond, Full: time.Millisecond},
		},
	}
}

// Events is the session.
func Events() []*event.Event {
	p := Process()
	hostile := *p
	hostile.UID, hostile.PID, hostile.Agent = 0xa2, 4243, nil
	hostile.Name = "evil\x1b]0;owned\x07\nexec"
	hostile.Executable = "/tmp/" + hostile.Name
	peer := netip.MustParseAddrPort("93.184.216.34:443")
	local := netip.MustParseAddrPort("10.0.0.2:40000")
	payloads := []struct {
		by      *event.Process
		payload event.Payload
	}{
		{nil, &event.SandboxStart{Processes: 1}},
		{p, &event.ProcessExec{
			Args: []string{"bash", "-lc", "make test && echo \"it's done\""}, ArgsCount: 3, Executable: "/usr/bin/bash",
			WorkingDirectory: "/src", Origin: event.OriginFile, Ancestry: []string{"codex"},
			Env: []event.EnvVar{{Name: "CODEX_TOOL_CALL_ID", Value: "call_7"}},
		}},
		{&hostile, &event.ProcessExec{
			Args:      []string{"./x", "new\nline", "\x1b[2J\x1b[31mred\u009b0m", "\xff\xfe\\n", "\u202eoverride\u200b", ""},
			ArgsCount: 6, Executable: hostile.Executable, WorkingDirectory: "/tmp", Origin: event.OriginTmpfs,
		}},
		{p, &event.FileOpen{Path: "/src/parser.go", Access: event.AccessRead, Inode: 7, Device: 8<<20 | 1, Class: event.FileClassSource}},
		{p, &event.FileOpen{
			Path: "/src/parser.go", Access: event.AccessWrite | event.AccessCreate | event.AccessTruncate,
			Inode: 7, Device: 8<<20 | 1, Class: event.FileClassSource,
		}},
		{p, &event.FileOpen{Path: "/home/dev/.ssh/id_ed25519", Access: event.AccessRead, Inode: 8, Device: 8<<20 | 1, Class: event.FileClassSecret}},
		{&hostile, &event.FileOpen{
			Path: "/etc/sha\xf0dow\r\n", Claimed: true, Access: event.AccessRead, Error: 13, Class: event.FileClassSystem,
		}},
		{p, &event.NetworkConnect{
			Transport: event.TransportTCP, Peer: peer, Local: local, PeerName: "example.com", PeerNameSource: "dns",
			Latency: 12 * time.Millisecond,
		}},
		{p, &event.NetworkConnect{Transport: event.TransportTCP, Peer: netip.MustParseAddrPort("[::1]:9"), Error: 111}},
		{p, &event.NetworkFlow{
			Transport: event.TransportTCP, Peer: peer, Local: local, PeerName: "example.com", PeerNameSource: "dns",
			Sent: 517, Received: 1 << 20, Duration: 1500 * time.Millisecond,
		}},
		{p, &event.Finding{
			ID: "f-1", Rule: Rule(), State: event.FindingNew, Title: "bash read /home/dev/.ssh/id_ed25519",
			Explanation: "bash[4242] read a private key.", Objects: []string{"/home/dev/.ssh/id_ed25519"},
			Evidence: []string{"inst-6"}, Count: 1, Chain: []string{"codex", "bash"},
			Context: &event.FindingContext{
				Prompt: "fix the \x1b[31mtest", PromptLength: 12, Command: "cat ~/.ssh/id_ed25519", Approval: event.ApprovalGranted, Decider: "user",
			},
		}},
		{nil, &event.SyscallSummary{
			Window: 10 * time.Second, Counts: []event.Count{{Name: "openat", N: 40}, {Name: "read", N: 3}},
			Errors:    []event.Count{{Name: "openat", N: 2}},
			Processes: []event.Count{{Name: "00000000000000aa", N: 30}, {Name: event.OtherCount, N: 13}},
			Latencies: event.NewLatencies([]event.Latency{
				{Name: "openat", Sum: 96 * time.Microsecond, Buckets: [event.LatencyBuckets]int64{2: 30, 3: 9}},
				{Name: "read", Sum: 20 * time.Second, Buckets: [event.LatencyBuckets]int64{0: 2, event.LatencyBuckets - 1: 1}},
			}, 43),
		}},
		{p, &event.ProcessExit{Code: 2, Exited: Start().Add(2 * time.Second), Duration: 2 * time.Second}},
		{&hostile, &event.ProcessExit{Signal: 11, CoreDumped: true, Exited: Start().Add(time.Second), Duration: time.Second}},
		{nil, &event.Loss{Stage: event.LossRing, Lost: "file", Count: 12, Reason: "ring_full"}},
		{nil, &event.Probe{Name: "notable", State: event.ProbeFallback, Plan: "tracepoint", Reason: "kprobe_multi is not supported"}},
		{nil, &event.Probe{Name: "dns", State: event.ProbeDegraded, Reason: "EPERM", Lost: []string{"dns.message", "network.stream"}}},
		{nil, Usage()},
		{p, &event.ProcessHash{Executable: "/usr/bin/bash", SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}},
		{p, &event.ProcessHash{Executable: "/usr/bin/bash", Missing: "gone"}},
		{p, &event.ProcessHash{Executable: "/tmp/new", SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Uncertain: true}},
		{p, &event.SyscallProcess{
			Window: 10 * time.Second, Counts: []event.Count{{Name: "openat", N: 30}}, Errors: []event.Count{{Name: "openat", N: 2}}, Other: 1,
		}},
		{nil, &event.SandboxStop{Processes: 2, Outlived: 1}},
	}
	events := make([]*event.Event, 0, len(payloads))
	for i, x := range payloads {
		at := Start().Add(time.Duration(i) * 10 * time.Millisecond)
		events = append(events, &event.Event{
			Time: at, Observed: at.Add(time.Millisecond), Seq: uint64(i + 1), Instance: "inst",
			Sandbox: Sandbox(), Process: x.by, Truncated: i == 2, Payload: x.payload,
		})
	}
	events[14].Sandbox = nil
	return events
}
