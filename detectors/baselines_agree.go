// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"slices"
	"strconv"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

const ruleBaselinesAgree = "baselines-agree"

// agreeWithin is how near to each other two statistical findings must be to be about one thing.
// A beacon needs ten intervals to be one.
const agreeWithin = time.Hour

// baselinesAgree reports that two statistical detectors found something in one session. Each alone only scores: being
// unusual is no offence. Two that look at different things seldom are both wrong at once.
type baselinesAgree struct {
	remembering

	base     *Baselines
	findings *memory.Memory[repeats]
}

func newBaselinesAgree(cfg *Config, base *Baselines) *baselinesAgree {
	d := &baselinesAgree{
		remembering: remembering{rule: event.Rule{
			ID: ruleBaselinesAgree, UUID: "93d0c7e8-4f15-4b6a-a2d9-8e1b5f3c7a60", Version: "1",
			Title:      "Several baselines agree that a session is unusual",
			Severity:   event.SeverityMedium,
			Confidence: event.ConfidenceMedium,
			Attack:     []string{"T1071", "T1204.002"}, ASI: []string{"ASI10"},
			Kinds: []event.Kind{
				event.KindProcessExec, event.KindNetworkConnect, event.KindDNSQuery, event.KindFileOpen, event.KindFileCreate,
				event.KindFileRename, event.KindFileDelete, event.KindFileTruncate,
			},
			MemoryBound: "per sandbox 64 findings, at most 256 bytes each; max_sandboxes sandboxes; least recently used first; " +
				"a finding goes with its session; what it compares is in the sessions of burst",
			FalsePositives: "two of burst, first-seen and beaconing in one session within an hour; high only when one of them is " +
				"beaconing: new programs that are busy are what the first build with a new tool looks like",
			Next: []string{
				"Read the findings that agree, and do what their pages say.",
				"Stop the session if a new destination is reached by the clock.",
			},
			Runbook: "docs/detectors/baselines-agree.md",
		}},
		base:     base,
		findings: memory.New[repeats](cfg.MaxSandboxes, mostSessions),
	}
	d.memories = []memories{d.findings}
	return d
}

// Detect implements Detector. It comes after the detectors that it compares.
func (d *baselinesAgree) Detect(e *event.Event, report func(*event.Finding)) {
	if d.base.voted != e || e.Sandbox == nil {
		return
	}
	d.base.voted = nil
	o := d.base.session(e)
	var agreed []*vote
	for i := range o.votes {
		if v := &o.votes[i]; v.id != "" && e.Time.Sub(v.at) <= agreeWithin {
			agreed = append(agreed, v)
		}
	}
	if len(agreed) < 2 {
		return
	}
	session, _ := turn(e.Process)
	key := d.findings.Key(0, session)
	seen := recall(d.findings, e, key)
	if seen.seen(&d.rule, e) {
		report(d.finding(e, agreed, seen))
	}
}

func (d *baselinesAgree) finding(e *event.Event, agreed []*vote, seen *repeats) *event.Finding {
	slices.SortStableFunc(agreed, func(a, b *vote) int { return a.at.Compare(b.at) })
	f := &event.Finding{ID: seen.id, Rule: &d.rule, State: seen.state(), Count: seen.count}
	f.Title = strconv.Itoa(len(agreed)) + " baselines agree: " + agreed[0].title
	why := new(explanation).say(strconv.Itoa(len(agreed)), " detectors that each know only what is usual found this session unusual within ",
		agreeWithin.String(), ".")
	for i, v := range agreed {
		if v.by == statisticalBeaconing {
			f.Level = event.SeverityHigh
		}
		if i > 0 {
			f.Title += "; " + v.title
		}
		why.say("Finding ", v.id, ": ", v.title, ".")
		f.Objects = append(f.Objects, v.object)
		f.Evidence = append(f.Evidence, v.evidence)
	}
	f.Explanation = why.who(e.Process).repeated(seen.count).String()
	return f
}
