// SPDX-License-Identifier: Apache-2.0

package event

import (
	"math"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// payloads is one of each payload.
func payloads() []Payload {
	rule := &Rule{ID: "secret-read", Severity: SeverityHigh}
	peer := netip.MustParseAddrPort("192.0.2.1:443")
	claim := Claim{Agent: "codex", Session: "s", Channel: ChannelLog, Sender: SenderOwner, Received: time.Unix(1, 0)}
	return []Payload{
		&ProcessExec{Args: []string{"ls", "-l"}, ArgsCount: 2},
		&ProcessExit{Code: 7},
		&SyscallNotable{
			Name: "mount", ABI: ABII386, Number: 21, Arguments: []SyscallArgument{{Name: "source", Value: "x", Claimed: true}},
			Error: 2, Result: -2, Target: &Target{PID: 1, Name: "init", UID: 5}, Namespaces: &Namespaces{},
		},
		&ProcessCredentials{Cause: CauseExec, Before: Credentials{UserID: 1, EffectiveUserID: 1, SavedUserID: 1, EffectiveGroupID: 1}, After: Credentials{Permitted: 1}},
		&ProcessMove{Direction: MoveOut, From: "/a", To: "/b", FromID: 1, ToID: 2, Born: true, Thread: true, Mover: Mover{Name: "sh", UID: 3}},
		&FileOpen{Path: "/etc/passwd", Access: AccessRead},
		&FileChange{Operation: FileMkdir, Path: "/d"}, &FileChange{Operation: FileUnlink, Path: "/d"},
		&FileChange{Operation: FileRenamed, Path: "/a", Target: "/b"}, &FileChange{Operation: FileSymlink, Path: "/a", Target: "b"},
		&FileChange{Operation: FileTruncate, Path: "/a"}, &FileChange{Operation: FileChown, Path: "/a"}, &FileMap{Path: "/lib/a.so"},
		&FileIO{Path: "/a", Read: 1},
		&NetworkConnect{Transport: TransportTCP, Peer: peer},
		&NetworkFlow{Transport: TransportTCP, Peer: peer},
		&NetworkSocket{Operation: SocketConnect, Family: "unix", Name: "/run/x"}, &NetworkSocket{Operation: SocketBind, Family: "inet", Local: peer},
		&NetworkSocket{Operation: SocketListen, Family: "inet", Local: peer}, &NetworkSocket{Operation: SocketAccept, Family: "inet", Peer: peer},
		&NetworkRequest{Transport: TransportTCP, Peer: peer, Protocol: "tls", Name: "example.org", Source: "sni"},
		&DNSQuery{Name: "example.org", Type: "A", Transport: TransportUDP, Server: peer, Records: []DNSRecord{{Name: "example.org", Type: "A"}}},
		&SyscallSummary{Counts: []Count{{"read", 1}}},
		&Takeover{How: PinningReplaced, Ring: RingRead, Version: "0.1.0", PID: 7, Sandboxes: 1},
		&SandboxStart{}, &SandboxStop{}, &SandboxPosture{Seccomp: "disabled", Weaknesses: []Weakness{WeakSeccomp}},
		&ResourceUsage{
			Sources: []string{"cgroup2"}, CPU: &CPUUsage{Total: 3, User: 2, System: 1, Throttle: &Throttling{Periods: 2, Throttled: 1, Time: 1}},
			Memory: &MemoryUsage{Current: 2, Peak: 3, Limit: 4, OOMKills: 1}, IO: &IOUsage{ReadBytes: 1}, Tasks: &TaskUsage{Current: 1, Limit: 2},
			Pressure: Pressures{CPU: &Pressure{}, Memory: &Pressure{}, IO: &Pressure{}},
		},
		&Finding{Rule: rule, Title: "t", Count: 1, State: FindingNew},
		&SessionStart{Claim: claim, Model: "m"}, &SessionEnd{Claim: claim, Reason: "exit"},
		&Prompt{Claim: claim, Length: 3}, &ModelRequest{Claim: claim, Input: 1},
		&ToolCall{
			Claim: claim, Phase: PhaseJoined, ID: "call_1", Name: "exec", HasExit: true, MCPServer: "m",
			Roots: []ProcessID{1}, Exited: true, Running: true, Outcome: OutcomeSuccess,
		},
		&Approval{Claim: claim, CallID: "call_1", State: ApprovalDenied},
		&PolicyDecision{Claim: claim, Decision: DecisionDeny, Client: peer, Server: "example.org", ServerPort: 443},
		&SandboxOutcome{Claim: claim, Outcome: "denied"}, &AgentError{Claim: claim, Type: "t"}, &TurnEnd{Claim: claim},
		&ClaimMismatch{Claim: claim, Type: MismatchExitCode, Claimed: "0", Fact: "7", Roots: []ProcessID{1}},
		&Loss{Stage: LossRing, Lost: "file", Count: 3, Reason: "ring_full"},
	}
}

func TestEveryPayloadTellsItself(t *testing.T) {
	kinds := map[Kind]bool{}
	for _, p := range payloads() {
		if kinds[p.Kind()] {
			t.Errorf("kind %s stands for two payloads", p.Kind())
		}
		kinds[p.Kind()] = true
		if p.Severity() == 0 {
			t.Errorf("%s has no severity", p.Kind())
		}
		if len(p.AppendBody(nil)) == 0 {
			t.Errorf("%s has no body", p.Kind())
		}
		seen := map[Key]bool{}
		for _, a := range p.AppendAttributes(nil) {
			if a.Value.Kind() == ValueInvalid {
				t.Errorf("%s: attribute %s has no value", p.Kind(), a.Key)
			}
			if seen[a.Key] {
				t.Errorf("%s: attribute %s stands twice", p.Kind(), a.Key)
			}
			seen[a.Key] = true
		}
	}
}

// TestClaimsSpeakForThemselves: the sender's own join and the claim must not both say which session it is.
func TestClaimsSpeakForThemselves(t *testing.T) {
	process := &Process{UID: 1, Agent: &Agent{Name: "codex", SessionID: "sender's", CallID: "c", Method: "env"}}
	for _, p := range payloads() {
		seen := map[Key]bool{}
		for _, a := range (&Event{Process: process, Payload: p}).AppendAttributes(nil) {
			if seen[a.Key] {
				t.Errorf("%s: attribute %s stands twice", p.Kind(), a.Key)
			}
			seen[a.Key] = true
		}
	}
}

func TestEventAttributesHoldIdentity(t *testing.T) {
	e := &Event{
		Seq: 42, Instance: "abc", Truncated: true,
		Process: &Process{
			UID: 0xdeadbeef, ParentUID: 1, PID: 7, ParentPID: 6, Executable: "/bin/ls", Name: "ls",
			Agent: &Agent{Name: "codex", CallID: "call_1", Method: "env", Confidence: "exact"},
		},
		Payload: &ProcessExit{Signal: 9},
	}
	got := map[Key]string{}
	for _, a := range e.AppendAttributes(nil) {
		got[a.Key] = a.Value.Text()
	}
	want := map[Key]string{
		LogRecordUID: "abc-42", EventSeq: "42", CaptureTruncated: "true",
		ProcessUID: "00000000deadbeef", ProcessParentUID: "0000000000000001",
		ProcessPID: "7", ProcessParentPID: "6", ProcessExecutablePath: "/bin/ls", ProcessExecutableName: "ls",
		GenAIAgentName: "codex", GenAIToolCallID: "call_1", JoinMethod: "env", JoinConfidence: "exact",
		ExitSignal: "SIGKILL", OtelEventName: string(KindProcessExit),
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s = %q, want %q", key, got[key], value)
		}
	}
	if _, ok := got[ProcessExitCode]; ok {
		t.Error("a process that a signal ended has no exit code")
	}
}

func TestScopeOf(t *testing.T) {
	for addr, want := range map[string]Scope{
		"127.0.0.1": ScopeLoopback, "::1": ScopeLoopback, "::ffff:127.0.0.1": ScopeLoopback,
		"10.1.2.3": ScopePrivate, "172.31.0.1": ScopePrivate, "172.32.0.1": ScopePublic, "100.64.0.1": ScopePrivate,
		"100.128.0.1": ScopePublic, "fd00::1": ScopePrivate,
		"169.254.169.254": ScopeMetadata, "::ffff:169.254.169.254": ScopeMetadata, "fd00:ec2::254": ScopeMetadata,
		"169.254.170.2": ScopeMetadata, "100.100.100.200": ScopeMetadata,
		"169.254.1.1": ScopeLinkLocal, "fe80::1": ScopeLinkLocal, "224.0.0.251": ScopeMulticast,
		"0.0.0.0": ScopeUnspecified, "::": ScopeUnspecified, "192.0.2.1": ScopePublic, "2001:db8::1": ScopePublic,
	} {
		if got := ScopeOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("ScopeOf(%s) = %s, want %s", addr, got, want)
		}
	}
}

func TestSignalAndErrnoNames(t *testing.T) {
	for n, want := range map[int]string{0: "", 9: "SIGKILL", 31: "SIGSYS", 34: "SIGRTMIN", 64: "SIGRTMIN+30", 32: "SIG32", -1: "SIG-1"} {
		if got := SignalName(n); got != want {
			t.Errorf("SignalName(%d) = %q, want %q", n, got, want)
		}
	}
	for e, want := range map[Errno]string{0: "", 2: "ENOENT", 13: "EACCES", 111: "ECONNREFUSED", 512: "ERESTARTSYS", 9999: "errno_9999"} {
		if got := e.Name(); got != want {
			t.Errorf("Errno(%d).Name() = %q, want %q", e, got, want)
		}
	}
}

func TestExecBodyKeepsArgumentBoundaries(t *testing.T) {
	p := &ProcessExec{Args: []string{"sh", "-c", "echo 'a b'", "", "plain-1.txt"}}
	if got, want := string(p.AppendBody(nil)), `sh -c 'echo '\''a b'\''' '' plain-1.txt`; got != want {
		t.Errorf("body = %s, want %s", got, want)
	}
	if got := string((&ProcessExec{Executable: "/x"}).AppendBody(nil)); got != "/x" {
		t.Errorf("body without arguments = %q, want the executable", got)
	}
}

func TestExitSeverity(t *testing.T) {
	for signal, want := range map[int]Severity{0: SeverityInfo, 15: SeverityInfo, 9: SeverityWarn, 11: SeverityWarn, 31: SeverityWarn} {
		if got := (&ProcessExit{Signal: signal}).Severity(); got != want {
			t.Errorf("severity of signal %d = %d, want %d", signal, got, want)
		}
	}
}

func TestFileSeverity(t *testing.T) {
	for _, c := range []struct {
		open FileOpen
		want Severity
	}{
		{FileOpen{}, SeverityDebug},
		{FileOpen{Class: FileClassSecret}, SeverityInfo},
		{FileOpen{Class: FileClassConfig}, SeverityInfo},
		{FileOpen{Error: 2}, SeverityDebug},
		{FileOpen{Error: 13, Class: FileClassSecret}, SeverityWarn},
	} {
		if got := c.open.Severity(); got != c.want {
			t.Errorf("severity of %+v = %d, want %d", c.open, got, c.want)
		}
	}
}

func TestValueRoundTrip(t *testing.T) {
	if got := Double(math.Pi).AsDouble(); got != math.Pi {
		t.Errorf("double = %v", got)
	}
	if got := Int(math.MinInt64).AsInt(); got != math.MinInt64 {
		t.Errorf("int = %v", got)
	}
	if !Bool(true).AsBool() || Bool(false).AsBool() {
		t.Error("bool does not come back")
	}
	if got := Strings([]string{"a", "b"}).AsStrings(); !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("strings = %v", got)
	}
	if got := Counts([]Count{{"read", 2}, {"open", 1}}).Text(); got != "read=2 open=1" {
		t.Errorf("counts = %q", got)
	}
	if got := String("x").AsInt(); got != 0 {
		t.Errorf("a string read as an int = %d, want 0", got)
	}
	stamp := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600))
	if got := Timestamp(stamp).AsString(); got != "2026-01-02T02:04:05.000000006Z" {
		t.Errorf("timestamp = %q", got)
	}
}

func TestAppendBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", math.MaxUint64: "16.0 EiB"} {
		if got := string(AppendBytes(nil, n)); got != want {
			t.Errorf("AppendBytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestAncestryIsBounded(t *testing.T) {
	p := &Process{Name: "leaf"}
	for q, i := p, 0; i < 40; i++ {
		q.Parent = &Process{Name: "n"}
		q = q.Parent
	}
	if got := len(p.Ancestry(16)); got != 16 {
		t.Errorf("ancestry has %d names, want 16", got)
	}
}

func TestSeverityNamesAscend(t *testing.T) {
	for s, want := range map[Severity][2]string{
		SeverityDebug: {"DEBUG", "info"}, SeverityInfo: {"INFO", "info"}, SeverityLow: {"INFO", "low"},
		SeverityMedium: {"WARN", "medium"}, SeverityHigh: {"ERROR", "high"}, SeverityCritical: {"FATAL", "critical"},
	} {
		if s.Text() != want[0] || s.FindingName() != want[1] {
			t.Errorf("severity %d is %s and %s, want %s and %s", s, s.Text(), s.FindingName(), want[0], want[1])
		}
	}
}
