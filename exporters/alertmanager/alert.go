// SPDX-License-Identifier: Apache-2.0

package alertmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// The names of the alerts.
const (
	findingName = "WatchglassFinding"
	canaryName  = "WatchglassCanary"
)

// Bounds of what is sent, in bytes.
const (
	maxLabel      = 256
	maxAnnotation = 2048
	maxListed     = 16
)

// document is an alert as the API takes it.
type document struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// document is an alert as it is told now. While it is active it ends a while from now, which each refresh puts off.
func (e *Exporter) document(a *alert, now time.Time) document {
	d := document{Labels: a.labels, Annotations: a.annotations, StartsAt: a.started, EndsAt: now.Add(lives * e.cfg.RefreshInterval)}
	if !a.ended.IsZero() {
		d.EndsAt = a.ended
	}
	if d.StartsAt.After(d.EndsAt) { // the clock was set back
		d.StartsAt = d.EndsAt
	}
	return d
}

// apiURL is where alerts are posted.
func apiURL(base string) string { return strings.TrimSuffix(base, "/") + "/api/v2/alerts" }

func (r *receiver) post(ctx context.Context, batch []dueAlert) error {
	documents := make([]document, 0, len(batch))
	for _, d := range batch {
		documents = append(documents, d.document)
	}
	body, err := json.Marshal(documents)
	if err != nil {
		return fmt.Errorf("encode alerts: %w", err)
	}
	return r.client.Post(ctx, body, http.Header{"Content-Type": {"application/json"}})
}

// labelsOf is the identity of an alert: what people group, route and inhibit by.
func (e *Exporter) labelsOf(ev *event.Event, f *event.Finding) map[string]string {
	labels := maps.Clone(e.labels)
	set := func(name, value string) {
		if value != "" {
			labels[name] = bounded(value)
		}
	}
	labels["alertname"] = findingName
	if f.Canary() {
		labels["alertname"] = canaryName
	}
	set("severity", f.Severity().FindingName())
	set("rule", f.Rule.ID)
	set("finding", f.ID)
	if s := ev.Sandbox; s != nil {
		set("sandbox", s.ID)
		set("sandbox_name", s.Name)
	}
	if p := ev.Process; p != nil && p.Agent != nil {
		set("agent", p.Agent.Name)
		set("session", p.Agent.SessionID)
	}
	return labels
}

// annotationsOf is what people read.
func (e *Exporter) annotationsOf(ev *event.Event, f *event.Finding) map[string]string {
	annotations := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			annotations[name] = exporters.PrintableUpTo(value, maxAnnotation)
		}
	}
	list := func(name string, values []string) {
		if more := len(values) - maxListed; more > 0 {
			values = append(values[:maxListed:maxListed], fmt.Sprintf("… and %d more", more))
		}
		set(name, strings.Join(values, ", "))
	}
	set("summary", f.Title)
	set("description", f.Explanation)
	if f.Rule.Runbook != "" && e.cfg.RunbookURL != "" {
		set("runbook_url", e.cfg.RunbookURL+f.Rule.Runbook)
	}
	list("objects", f.Objects)
	set("confidence", string(f.Confidence()))
	set("check_next", strings.Join(f.Rule.Next, " "))
	set("process_chain", strings.Join(f.Chain, " → "))
	if c := f.Context; c != nil {
		set("prompt", c.Prompt)
		set("command", c.Command)
		set("approval_state", strings.TrimSpace(string(c.Approval)+" "+c.Decider))
	}
	list("evidence", f.Evidence)
	list("attack", f.Rule.Attack)
	list("owasp_agentic", f.Rule.ASI)
	set("count", strconv.Itoa(f.Count))
	if p := ev.Process; p != nil {
		set("process", fmt.Sprintf("%s[%d] %s", p.Name, p.PID, p.Executable))
		set("process_uid", p.UID.String())
		set("user_id", strconv.FormatUint(uint64(p.UserID), 10))
		if p.Agent != nil {
			set("tool_call", strings.TrimSpace(p.Agent.Tool+" "+p.Agent.CallID))
			set("approval", p.Agent.Approval)
		}
	}
	return annotations
}

// bounded is a value that a label may have.
func bounded(s string) string { return exporters.PrintableUpTo(s, maxLabel) }
