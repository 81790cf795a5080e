// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
)

// own is where ECS leaves room for what it has no field for: a name that is nobody else's.
const own = "watchglass."

// ECS is the event's ECS fields under their dotted names, until the record is of another event. What ECS has no field for is
// below watchglass.
func (m *Mapper) ECS(r *Record) []Field {
	if r.fields == nil {
		r.fields = make([]Field, 0, 5*usualFields)
	}
	clear(r.mapped)
	o := &flat{r.fields[:0]}
	kind, category, types := r.ecsCategory()
	o.put("ecs.version", ECSVersion)
	o.put("event.kind", kind)
	o.put("event.category", category)
	o.put("event.type", types)
	o.put("event.action", action(r.Kind))
	o.put("event.module", "watchglass")
	o.put("event.dataset", "watchglass.events")
	o.put("event.outcome", r.outcome())
	o.put("event.severity", int64(r.Severity))
	if r.Kind == event.KindFinding {
		o.put("event.risk_score", RiskScore(r.Severity))
	}
	if r.Observed > 0 {
		o.put("event.created", time.Unix(0, r.Observed).UTC().Format(time.RFC3339Nano))
	}
	o.put("log.level", strings.ToLower(r.Severity.Text()))
	o.put("message", r.Body)
	inbound := r.inbound()
	if slices.Contains(category, "network") {
		direction := "egress"
		if inbound {
			direction = "ingress"
		}
		o.put("network.direction", direction)
	}
	if r.Kind == event.KindDNSQuery {
		o.put("dns.type", r.dnsType())
	}
	for i := range m.table {
		row := &m.table[i]
		value := r.find(row.key)
		if row.ecs == "" || value.Kind() == event.ValueInvalid {
			continue
		}
		where := row.ecs
		if inbound {
			where = turned(where)
		}
		if v := row.ecsAs.in(value); v != nil && o.put(where, v) {
			r.hasField(row.key)
		}
	}
	r.ecsThreat(o)
	r.ecsEnvironment(o)
	for _, list := range [][]event.Attribute{r.Attributes, r.Resource} {
		for i := range list {
			if r.mapped[list[i].Key] {
				continue
			}
			if v := plain(list[i].Value); v != nil {
				o.put(own+strings.TrimPrefix(string(list[i].Key), own), v)
			}
		}
	}
	r.fields = o.fields
	return o.fields
}

// dnsType says whether there was an answer.
func (r *Record) dnsType() string {
	if r.find(event.DNSResponseCode).Kind() == event.ValueInvalid {
		return "query"
	}
	return "answer"
}

// flat is fields under dotted names.
type flat struct{ fields []Field }

// put adds a field and says whether it did: the first of a name stays.
func (f *flat) put(name string, value any) bool {
	if slices.ContainsFunc(f.fields, func(x Field) bool { return x.Name == name }) {
		return false
	}
	f.fields = append(f.fields, Field{name, value})
	return true
}

// RiskScore is ECS's score of a severity, on Elastic's scale.
func RiskScore(s event.Severity) float64 {
	switch s.FindingName() {
	case "critical":
		return 99
	case "high":
		return 73
	case "medium":
		return 47
	case "low":
		return 21
	default:
		return 0
	}
}

func (r *Record) outcome() string {
	failed, known := r.failed()
	switch {
	case failed:
		return "failure"
	case known:
		return "success"
	default:
		return "unknown"
	}
}

// ecsCategory is the event's kind, categories and types, of those that ECS allows.
func (r *Record) ecsCategory() (kind string, category, types []string) {
	switch r.Kind {
	case event.KindProcessExec:
		return "event", []string{"process"}, []string{"start"}
	case event.KindProcessExit:
		return "event", []string{"process"}, []string{"end"}
	case event.KindFinding:
		return "alert", []string{"intrusion_detection"}, []string{"info"}
	case event.KindNetworkConnect:
		types := []string{"connection", "start"}
		if e := r.find(event.ErrorType).AsString(); e == "EPERM" || e == "EACCES" {
			types = []string{"connection", "denied"}
		}
		return "event", []string{"network"}, types
	case event.KindNetworkFlow:
		if r.find(event.NetworkContinuing).AsBool() {
			return "event", []string{"network"}, []string{"connection", "info"}
		}
		return "event", []string{"network"}, []string{"connection", "end"}
	case event.KindNetworkAccept:
		return "event", []string{"network"}, []string{"connection", "start"}
	case event.KindSyscallSummary, event.KindSyscallProcess, event.KindResourceUsage:
		return "metric", []string{"host"}, []string{"info"}
	case event.KindSandboxStart, event.KindSessionStart:
		return "event", []string{"session"}, []string{"start"}
	case event.KindSandboxStop, event.KindSessionEnd:
		return "event", []string{"session"}, []string{"end"}
	case event.KindLoss, event.KindGap:
		return "event", []string{"host"}, []string{"error"}
	case event.KindProbe, event.KindTakeover:
		return "event", []string{"host"}, []string{"info"}
	case event.KindAgentError:
		return "event", []string{"api"}, []string{"error"}
	case event.KindApproval, event.KindPolicyDecision:
		return "event", []string{"api"}, r.decisionTypes()
	case event.KindFileOpen, event.KindFileCreate, event.KindFileDelete, event.KindFileIO:
		return "event", []string{"file"}, r.fileTypes()
	default:
	}
	subject, _, _ := strings.Cut(action(r.Kind), ".")
	switch subject {
	case "process":
		return "event", []string{"process"}, []string{"info"}
	case "file":
		return "event", []string{"file"}, []string{"change"}
	case "network":
		return "event", []string{"network"}, []string{"connection"}
	case "dns":
		return "event", []string{"network"}, []string{"protocol"}
	default:
		return "event", []string{"api"}, []string{"info"}
	}
}

func (r *Record) fileTypes() []string {
	if e := r.find(event.ErrorType).AsString(); e == "EPERM" || e == "EACCES" {
		return []string{"denied"}
	}
	switch r.Kind {
	case event.KindFileCreate:
		return []string{"creation"}
	case event.KindFileDelete:
		return []string{"deletion"}
	case event.KindFileIO:
		if r.find(event.FileBytesWritten).AsInt() > 0 {
			return []string{"change"}
		}
		return []string{"access"}
	default:
	}
	switch _, activity := r.openActivity(); activity {
	case "Create":
		return []string{"creation"}
	case "Update":
		return []string{"change"}
	default:
		return []string{"access"}
	}
}

func (r *Record) decisionTypes() []string {
	failed, known := r.failed()
	switch {
	case failed:
		return []string{"denied"}
	case known:
		return []string{"allowed"}
	default:
		return []string{"info"}
	}
}

// ecsThreat splits ATT&CK's ids into techniques and subtechniques.
func (r *Record) ecsThreat(o *flat) {
	ids := r.find(event.FindingAttack).AsStrings()
	if len(ids) == 0 {
		return
	}
	r.hasField(event.FindingAttack)
	var techniques, subs []string
	for _, id := range ids {
		technique, _, sub := strings.Cut(id, ".")
		if !slices.Contains(techniques, technique) {
			techniques = append(techniques, technique)
		}
		if sub {
			subs = append(subs, id)
		}
	}
	o.put("threat.framework", "MITRE ATT&CK")
	o.put("threat.technique.id", techniques)
	if len(subs) > 0 {
		o.put("threat.technique.subtechnique.id", subs)
	}
}

// ecsEnvironment gathers the environment variables, each of which is an attribute.
func (r *Record) ecsEnvironment(o *flat) {
	var variables []string
	for i := range r.Attributes {
		a := &r.Attributes[i]
		if name, ok := strings.CutPrefix(string(a.Key), string(event.ProcessEnvironment)+"."); ok {
			variables = append(variables, name+"="+a.Value.Text())
			r.hasField(a.Key)
		}
	}
	if len(variables) > 0 {
		o.put("process.env_vars", variables)
	}
}
