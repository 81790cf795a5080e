// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"cmp"
	"slices"
	"strings"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// weakSandbox reports what the set-up of a sandbox leaves open, once for each sandbox and weakness, and says when it no
// longer does, or the sandbox is gone.
type weakSandbox struct {
	remembering

	findings *memory.Memory[openWeakness]
}

// openWeakness is a weakness that was reported.
type openWeakness struct {
	repeats

	weakness event.Weakness
	level    event.Severity
	title    string
}

func newWeakSandbox(cfg *Config) *weakSandbox {
	d := &weakSandbox{
		remembering: remembering{rule: event.Rule{
			ID: "weak-sandbox", UUID: "3c9f5b0a-0d7c-4b3a-9a60-6f2f6d0a9e5b", Version: "1",
			Title:    "A sandbox's set-up leaves something open",
			Severity: event.SeverityLow,
			Attack:   []string{"T1611", "T1562.001"}, ASI: []string{"ASI05", "ASI10"},
			Kinds: []event.Kind{event.KindSandboxPosture, event.KindSandboxStop},
			MemoryBound: "per sandbox one finding for each kind of weakness, at most 1 KiB each; max_sandboxes sandboxes; " +
				"least recently used first; a finding is the sandbox's, and goes when it is over",
			FalsePositives: "each weakness once for each sandbox; a session without any sandbox is one low finding, not ten; " +
				"a workspace that is mounted to be written is none",
			Next: []string{
				"See the whole list with its remedies: watchglass posture.",
			},
			Runbook: "docs/detectors/weak-sandbox.md",
		}},
		findings: memory.New[openWeakness](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings}
	return d
}

// Detect implements Detector.
func (d *weakSandbox) Detect(e *event.Event, report func(*event.Finding)) {
	if e.Sandbox == nil {
		return
	}
	switch p := e.Payload.(type) {
	case *event.SandboxPosture:
		for _, weakness := range p.Weaknesses {
			d.found(e, weakness, Advise(p, weakness), report)
		}
		// Where there is no sandbox at all, that stands for everything else.
		if !slices.Contains(p.Weaknesses, event.WeakNone) {
			d.over(e, "The sandbox was looked at again.", func(w event.Weakness) bool { return !slices.Contains(p.Weaknesses, w) }, report)
		}
	case *event.SandboxStop:
		d.over(e, "The sandbox is gone, or no longer watched.", func(event.Weakness) bool { return true }, report)
	}
}

func (d *weakSandbox) key(w event.Weakness) uint64 { return d.findings.Key(0, string(w)) }

func (d *weakSandbox) found(e *event.Event, weakness event.Weakness, advice Advice, report func(*event.Finding)) {
	seen := d.findings.Get(e.Sandbox.ID, d.key(weakness))
	if seen == nil {
		seen = d.findings.Put(e.Sandbox.ID, d.key(weakness), openWeakness{weakness: weakness})
	}
	if !seen.seen(&d.rule, e) {
		return
	}
	seen.level, seen.title = advice.Level, "sandbox "+cut(e.Sandbox.Name, longestCommand)+": "+advice.What
	report(&event.Finding{
		ID: seen.id + "-" + string(weakness), Rule: &d.rule, State: seen.state(), Level: advice.Level, Count: seen.count,
		Title: seen.title,
		Explanation: new(explanation).say(upper(advice.What), ". ", advice.Why, " Remedy: ", advice.Remedy).
			who(e.Process).repeated(seen.count).String(),
		Objects:  advice.Objects,
		Evidence: []string{e.UID()},
	})
}

// over says of the weaknesses of a sandbox that are over that they are, the first reported first.
func (d *weakSandbox) over(e *event.Event, why string, over func(event.Weakness) bool, report func(*event.Finding)) {
	var ended []openWeakness
	d.findings.Each(e.Sandbox.ID, func(o *openWeakness) {
		if over(o.weakness) {
			ended = append(ended, *o)
		}
	})
	slices.SortFunc(ended, func(a, b openWeakness) int {
		return cmp.Or(a.reported.Compare(b.reported), strings.Compare(string(a.weakness), string(b.weakness)))
	})
	for _, o := range ended {
		d.findings.Drop(e.Sandbox.ID, d.key(o.weakness))
		report(&event.Finding{
			ID: o.id + "-" + string(o.weakness), Rule: &d.rule, State: event.FindingResolved, Level: o.level, Count: o.count, Title: o.title,
			Explanation: "It is over: " + o.title + ". " + why, Evidence: []string{e.UID()},
		})
	}
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// Advice is what is to be said of a weakness.
type Advice struct {
	Level event.Severity
	// What is the weakness in a few words, Why what follows from it, Remedy what to do: one sentence each.
	What, Why, Remedy string
	// Objects is what it is about.
	Objects []string
}

// Advise says of a weakness what it is, why it matters and what to do about it.
func Advise(p *event.SandboxPosture, w event.Weakness) Advice {
	switch w {
	case event.WeakNone:
		return Advice{
			Level: event.SeverityLow, What: "there is no sandbox", Why: "What the agent runs has all rights of root on this machine.",
			Remedy: "run the agent in a container or with bubblewrap, as a user of its own, and let Watchglass watch that.",
		}
	case event.WeakRuntimeSocket:
		return Advice{
			Level: event.SeverityHigh, What: "the socket of a container runtime is within reach", Objects: p.Sockets,
			Why:    "Who can write to it starts a privileged container and owns the machine.",
			Remedy: "do not mount it; give the agent a rootless or remote builder instead.",
		}
	case event.WeakDevices:
		return Advice{
			Level: event.SeverityHigh, What: "devices of the machine are within reach", Objects: p.Devices,
			Why:    "A block device is the machine's disk, past every file permission.",
			Remedy: "do not run it privileged, and pass no devices but those it needs.",
		}
	case event.WeakCapabilities:
		return Advice{
			Level: event.SeverityMedium, What: "it has capabilities that lead out of a container", Objects: p.Capabilities,
			Why:    "They hold in the machine's own user namespace.",
			Remedy: "drop all capabilities and add the one that is needed, or use a user namespace.",
		}
	case event.WeakNamespaces:
		return Advice{
			Level: event.SeverityLow, What: "it shares namespaces with the machine: " + strings.Join(p.HostNamespaces, ", "),
			Objects: p.HostNamespaces, Why: "It sees, and reaches, what runs outside of it.",
			Remedy: "give it its own (hostPID, hostNetwork, hostIPC: false; bwrap --unshare-all).",
		}
	case event.WeakRoot:
		return Advice{
			Level: event.SeverityLow, What: "it runs as root of the machine", Why: "One mistake of the kernel or of a mount is enough.",
			Remedy: "run it as another user (runAsNonRoot, --user), or in a user namespace.",
		}
	default:
		return adviseLimits(p, w)
	}
}

func adviseLimits(p *event.SandboxPosture, w event.Weakness) Advice {
	switch w {
	case event.WeakMounts:
		return Advice{
			Level: event.SeverityMedium, What: "directories of the machine can be written to", Objects: p.WritableMounts,
			Why:    "What is put there is run by the machine itself.",
			Remedy: "mount them read-only, or only the workspace.",
		}
	case event.WeakSeccomp:
		return Advice{
			Level: event.SeverityLow, What: "no filter of system calls", Why: "The whole kernel is its to try.",
			Remedy: "use the runtime's default profile (seccompProfile: RuntimeDefault).",
		}
	case event.WeakNoNewPrivs:
		return Advice{
			Level: event.SeverityInfo, What: "set-user-id programs still give privileges", Why: "sudo and its like work inside.",
			Remedy: "set no_new_privs (allowPrivilegeEscalation: false, --security-opt no-new-privileges).",
		}
	case event.WeakMetadata:
		return Advice{
			Level: event.SeverityInfo, What: "there is a route to the cloud's metadata service",
			Why: "On a cloud machine it hands out the machine's credentials.", Remedy: "block 169.254.169.254, or require IMDSv2 with a hop limit of 1.",
		}
	case event.WeakNetwork:
		return Advice{
			Level: event.SeverityInfo, What: "nothing says where it may connect to", Why: "Every destination is allowed, and none is a finding.",
			Remedy: "write policy.network.allow, and enforce it with a network policy or a proxy.",
		}
	case event.WeakLimits:
		return Advice{
			Level: event.SeverityInfo, What: "no limit of " + unlimited(p), Why: "One loop takes the machine down.",
			Remedy: "set pids.max and memory.max (resources.limits, --pids-limit, --memory).",
		}
	default:
		return Advice{Level: event.SeverityInfo, What: string(w), Why: "It is not described.", Remedy: "see the runbook."}
	}
}

// unlimited is what of a sandbox has no limit.
func unlimited(p *event.SandboxPosture) string {
	switch {
	case p.MemoryLimit != 0:
		return "processes"
	case p.PidsLimit != 0:
		return "memory"
	default:
		return "processes and memory"
	}
}
