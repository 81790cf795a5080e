// SPDX-License-Identifier: Apache-2.0

package event

// CanaryRuleID is the rule of the canary: a finding of no consequence that is made at an interval, so that
// its arrival proves the whole way of a finding, and its absence that the way is broken.
const CanaryRuleID = "watchglass-canary"

// CanaryRule is the canary's declaration.
func CanaryRule() *Rule {
	return &Rule{
		ID: CanaryRuleID, UUID: "5c2f60b5-3f0b-4b62-9a55-6d4a1f7f5f0e", Version: "1",
		Title: "Findings arrive", Severity: SeverityInfo,
		MemoryBound: "none", FalsePositives: "it is always one: nothing happened", Runbook: "dashboards/runbooks/WatchglassCanaryMissing.md",
	}
}

// Canary says whether a finding is the canary. Outputs take it whatever severity they ask for.
func (f *Finding) Canary() bool { return f.Rule.ID == CanaryRuleID }

// NotifierStats is the state of one output that tells people of findings, or of any exporter as far as the
// canary is concerned.
type NotifierStats struct {
	// Output is its name: an exporter's, or that of one of its receivers.
	Output string
	// Tells says whether telling people of findings is what it is for: else all but Canary is left out.
	Tells bool
	// Delivered is how many notifications it took, Failed how many attempts failed, Lost how many findings
	// were given up, Suppressed how many a rate limit held back, Pending how many wait now.
	Delivered, Failed, Lost, Suppressed uint64
	Pending                             int
	// Canary is when it last took a canary, in seconds since 1970; 0 for never.
	Canary int64
}
