// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"slices"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// class is an OCSF event class.
type class struct {
	uid, category int64
	name, group   string
	// process, parent and actor are where it has what the table calls @process, @parent and @actor.
	process, parent, actor string
	// own is the first elements of paths that only some classes have.
	own []string
	// profiles is the OCSF profiles that the event needs for its device and actor.
	profiles []string
}

func baseEvent() class {
	return class{
		0, 0, "Base Event", "Uncategorized", "actor.process", "actor.process.parent_process", "actor",
		[]string{"actor", "device"},
		[]string{"host"},
	}
}

func processActivity() class {
	return class{
		1007, 1, "Process Activity", "System Activity", "process", "process.parent_process", "actor",
		[]string{"process", "actor", "device", "exit_code"},
		nil,
	}
}

func fileActivity() class {
	return class{
		1001, 1, "File System Activity", "System Activity", "actor.process", "actor.process.parent_process", "actor",
		[]string{"actor", "device", "file", "file_result"},
		nil,
	}
}

func networkActivity() class {
	return class{
		4001, 4, "Network Activity", "Network Activity", "actor.process", "actor.process.parent_process", "actor",
		[]string{"actor", "device", "src_endpoint", "dst_endpoint", "connection_info", "traffic"},
		[]string{"host"},
	}
}

func dnsActivity() class {
	return class{
		4003, 4, "DNS Activity", "Network Activity", "actor.process", "actor.process.parent_process", "actor",
		[]string{"actor", "device", "src_endpoint", "dst_endpoint", "connection_info", "traffic", "query"},
		[]string{"host"},
	}
}

func detectionFinding() class {
	return class{
		2004, 2, "Detection Finding", "Findings", "evidences[].actor.process", "evidences[].actor.process.parent_process",
		"evidences[].actor",
		[]string{"evidences[]", "device", "finding_info"},
		nil,
	}
}

func apiActivity() class {
	return class{
		6003, 6, "API Activity", "Application Activity", "actor.process", "actor.process.parent_process", "actor",
		[]string{"actor", "device", "api", "src_endpoint", "dst_endpoint", "http_response"},
		[]string{"host"},
	}
}

// isCommon says whether every class has paths of that first element.
func isCommon(first string) bool {
	switch first {
	case "metadata", "count", "duration", "status_code", "status_detail":
		return true
	}
	return false
}

// classOf is the class of a kind. Kinds that are about the collector or the sandbox as a whole have none of
// their own and are base events.
func classOf(kind event.Kind) class {
	switch kind {
	case event.KindFinding:
		return detectionFinding()
	case event.KindLoss, event.KindProbe, event.KindTakeover, event.KindGap, event.KindResourceUsage:
		return baseEvent()
	case event.KindSandboxOutcome:
		return apiActivity() // the agent's own sandbox, and the agent's word
	default:
	}
	subject, _, _ := strings.Cut(action(kind), ".")
	switch subject {
	case "sandbox":
		return baseEvent()
	case "process":
		return processActivity()
	case "file":
		return fileActivity()
	case "network":
		return networkActivity()
	case "dns":
		return dnsActivity()
	default:
		return apiActivity()
	}
}

// other is the activity of which OCSF has no name: the kind's is told then.
const other = 99

// activity is the class's number and name for what happened.
func (r *Record) activity() (int64, string) {
	switch r.Kind {
	case event.KindProcessExec:
		return 1, "Launch"
	case event.KindProcessExit:
		return 2, "Terminate"
	case event.KindFileOpen:
		return r.openActivity()
	case event.KindFileIO:
		if r.find(event.FileBytesWritten).AsInt() > 0 {
			return 3, "Update"
		}
		return 2, "Read"
	case event.KindFileCreate:
		return 1, "Create"
	case event.KindFileDelete:
		return 4, "Delete"
	case event.KindFileRename:
		return 5, "Rename"
	case event.KindFileTruncate:
		return 3, "Update"
	case event.KindFileChmod:
		return 7, "Set Security"
	case event.KindNetworkConnect:
		switch r.find(event.ErrorType).AsString() {
		case "":
			return 1, "Open"
		case "ECONNREFUSED":
			return 5, "Refuse"
		default:
			return 4, "Fail"
		}
	case event.KindNetworkFlow:
		if r.find(event.NetworkContinuing).AsBool() {
			return 6, "Traffic"
		}
		return 2, "Close"
	case event.KindNetworkAccept:
		return 1, "Open"
	case event.KindNetworkListen:
		return 7, "Listen"
	case event.KindNetworkRequest:
		return 6, "Traffic"
	case event.KindDNSQuery:
		if r.dnsType() == "answer" {
			return 6, "Traffic" // the question and its answer
		}
		return 1, "Query"
	case event.KindFinding:
		switch event.FindingState(r.find(event.FindingStatus).AsString()) {
		case event.FindingUpdate:
			return 2, "Update"
		case event.FindingResolved:
			return 3, "Close"
		default:
			return 1, "Create"
		}
	default:
		return other, activityName(r.Kind)
	}
}

func (r *Record) openActivity() (int64, string) {
	access := r.find(event.FileAccess).AsStrings()
	switch {
	case r.find(event.FileCreated).AsBool():
		return 1, "Create"
	case slices.Contains(access, "write"), slices.Contains(access, "append"), slices.Contains(access, "truncate"):
		return 3, "Update"
	case slices.Contains(access, "read"):
		return 2, "Read"
	default:
		return 14, "Open"
	}
}

// OCSF is the event as an OCSF event.
func (m *Mapper) OCSF(r *Record) *Object {
	c := classOf(r.Kind)
	activity, name := r.activity()
	o := &Object{Fields: make([]Field, 0, 2*usualFields)}
	put := func(where string, value any) { o.put(where, value) }
	put("class_uid", c.uid)
	put("class_name", c.name)
	put("category_uid", c.category)
	put("category_name", c.group)
	put("activity_id", activity)
	put("activity_name", name)
	put("type_uid", c.uid*100+activity)
	put("time", r.Time/1e6)
	severity, caption := ocsfSeverity(r.Severity)
	put("severity_id", severity)
	put("severity", caption)
	put("message", r.Body)
	put("metadata.version", OCSFVersion)
	put("metadata.product.name", "Watchglass")
	put("metadata.product.vendor_name", "Watchglass")
	if r.Observed > 0 {
		put("metadata.logged_time", r.Observed/1e6)
	}
	if len(c.profiles) > 0 {
		put("metadata.profiles", c.profiles)
	}
	r.ocsfStatus(o)
	unmapped := m.mapOCSF(r, o, &c)
	r.completeOCSF(o, &c)
	if len(unmapped.Fields) > 0 {
		put("unmapped", unmapped)
	}
	return o
}

// mapOCSF writes what the table has a place for, and gives the rest.
func (m *Mapper) mapOCSF(r *Record, o *Object, c *class) *Object {
	inbound, nobody := r.inbound(), r.nobody()
	clear(r.mapped)
	switch c.uid {
	case detectionFinding().uid:
		r.hasField(event.FindingAttack)
	case dnsActivity().uid:
		r.hasField(event.DNSAnswers)
	}
	for i := range m.table {
		row := &m.table[i]
		value := r.find(row.key)
		if row.ocsf == "" || value.Kind() == event.ValueInvalid {
			continue
		}
		where, ok := c.where(row.ocsf)
		if !ok || nobody && row.key == event.SandboxName && strings.HasPrefix(row.ocsf, "@process.") {
			continue // a process has to have more to it than where it runs
		}
		if inbound {
			where = turned(where)
		}
		if v := row.ocsfAs.in(value); v != nil && o.put(where, v) {
			r.hasField(row.key)
		}
	}
	r.ocsfEnvironment(o, c)
	unmapped := &Object{Fields: make([]Field, 0, usualFields)}
	for _, list := range [][]event.Attribute{r.Attributes, r.Resource} {
		for i := range list {
			if v := plain(list[i].Value); v != nil && !r.mapped[list[i].Key] {
				unmapped.Fields = append(unmapped.Fields, Field{string(list[i].Key), v})
			}
		}
	}
	return unmapped
}

// nobody says whether the event has no process: then its sandbox is no process's.
func (r *Record) nobody() bool {
	for _, key := range []event.Key{event.ProcessPID, event.ProcessUID, event.ProcessExecutableName, event.ProcessExecutablePath, event.ProcessCommandArgs} {
		if r.find(key).Kind() != event.ValueInvalid {
			return false
		}
	}
	return true
}

// ocsfEnvironment gathers the environment variables, each of which is an attribute.
func (r *Record) ocsfEnvironment(o *Object, c *class) {
	var variables []*Object
	for i := range r.Attributes {
		a := &r.Attributes[i]
		if name, ok := strings.CutPrefix(string(a.Key), string(event.ProcessEnvironment)+"."); ok {
			variables = append(variables, &Object{[]Field{{"name", name}, {"value", a.Value.Text()}}})
			r.hasField(a.Key)
		}
	}
	if len(variables) > 0 {
		o.put(c.process+".environment_variables", variables)
	}
}

// where is a path of the table in the class; false when the class has no such place.
func (c *class) where(p string) (string, bool) {
	first, rest, _ := strings.Cut(p, ".")
	switch first {
	case "@process":
		return c.process + "." + rest, true
	case "@parent":
		return c.parent + "." + rest, true
	case "@actor":
		return c.actor + "." + rest, true
	}
	return p, isCommon(first) || slices.Contains(c.own, first)
}

// completeOCSF writes what the class demands besides.
func (r *Record) completeOCSF(o *Object, c *class) {
	o.put("device.type_id", int64(0)) // whether the node is virtual is not known
	o.put("device.os.name", "linux")
	o.put("device.os.type_id", int64(200))
	if r.find(event.ProcessExecutablePath).Kind() != event.ValueInvalid {
		o.put(c.process+".file.type_id", int64(1)) // a regular file
	}
	if r.find(event.ProcessSHA256).Kind() != event.ValueInvalid {
		o.put(c.process+".file.hashes[].algorithm_id", int64(3))
		o.put(c.process+".file.hashes[].algorithm", "SHA-256")
	}
	switch c.uid {
	case processActivity().uid:
		r.completeProcess(o)
	case fileActivity().uid:
		o.put("file.type_id", int64(0)) // not known
		if r.find(event.FilePath).Kind() == event.ValueInvalid {
			o.put("file.name", "several files") // required
		}
		if r.find(event.FileTargetPath).Kind() != event.ValueInvalid {
			o.put("file_result.type_id", int64(0))
		}
	case networkActivity().uid, dnsActivity().uid:
		direction := int64(2) // outbound
		if r.inbound() {
			direction = 1
		}
		o.put("connection_info.direction_id", direction)
		if c.uid == dnsActivity().uid {
			r.completeDNS(o)
		}
	case detectionFinding().uid:
		r.completeFinding(o)
	case apiActivity().uid:
		o.put("api.operation", action(r.Kind))
		o.put("src_endpoint.hostname", r.find(event.HostName).AsString())
	}
	if c.actor == "actor" && o.Get("actor") == nil {
		o.put("actor.app_name", "unknown")
	}
}

// completeProcess adds the actor: who started the process, or that it ended itself.
func (r *Record) completeProcess(o *Object) {
	from, to := o.Get("process"), "actor.process"
	process, _ := from.(*Object)
	if process == nil {
		return
	}
	if r.Kind == event.KindProcessExec {
		process, _ = process.Get("parent_process").(*Object)
	}
	for _, name := range []string{"pid", "uid", "name", "path"} {
		if process != nil && process.Get(name) != nil {
			o.put(to+"."+name, process.Get(name))
		}
	}
}

// completeDNS adds the answer. The response code as it was told stays in unmapped.
func (r *Record) completeDNS(o *Object) {
	if code := r.find(event.DNSResponseCode).AsString(); code != "" {
		id, caption := int64(other), code
		for i, known := range [][2]string{
			{"NOERROR", "NoError"},
			{"FORMERR", "FormError"},
			{"SERVFAIL", "ServError"},
			{"NXDOMAIN", "NXDomain"},
			{"NOTIMP", "NotImp"},
			{"REFUSED", "Refused"},
		} {
			if known[0] == code {
				id, caption = int64(i), known[1]
			}
		}
		o.put("rcode_id", id)
		o.put("rcode", caption)
	}
	var answers []*Object
	for _, address := range r.find(event.DNSAnswers).AsStrings() {
		answers = append(answers, &Object{[]Field{{"rdata", address}}})
	}
	if len(answers) > 0 {
		o.put("answers", answers)
	}
}

func (r *Record) completeFinding(o *Object) {
	o.put("finding_info.analytic.type_id", int64(1)) // a rule
	o.put("is_alert", event.FindingState(r.find(event.FindingStatus).AsString()) != event.FindingResolved)
	var attacks []*Object
	for _, id := range r.find(event.FindingAttack).AsStrings() {
		attack := &Object{}
		technique, _, sub := strings.Cut(id, ".")
		attack.put("technique.uid", technique)
		if sub {
			attack.put("sub_technique.uid", id)
		}
		attacks = append(attacks, attack)
	}
	if len(attacks) > 0 {
		o.put("finding_info.attacks", attacks)
	}
}

// ocsfStatus tells success and failure, and of a finding whether it goes on.
func (r *Record) ocsfStatus(o *Object) {
	if r.Kind == event.KindFinding {
		if event.FindingState(r.find(event.FindingStatus).AsString()) == event.FindingResolved {
			o.put("status_id", int64(4))
			return
		}
		o.put("status_id", int64(1)) // new
		return
	}
	failed, known := r.failed()
	switch {
	case failed:
		o.put("status_id", int64(2))
		o.put("status", "Failure")
	case known:
		o.put("status_id", int64(1))
		o.put("status", "Success")
	}
}

// ocsfSeverity is the severity and its name in OCSF.
func ocsfSeverity(s event.Severity) (int64, string) {
	switch s.FindingName() {
	case "critical":
		return 5, "Critical"
	case "high":
		return 4, "High"
	case "medium":
		return 3, "Medium"
	case "low":
		return 2, "Low"
	default:
		return 1, "Informational"
	}
}

// activityName is a kind in words: "Process Exec".
func activityName(kind event.Kind) string {
	words := strings.FieldsFunc(action(kind), func(c rune) bool { return c == '.' || c == '_' })
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, " ")
}
