// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

var update = flag.Bool("update", false, "rewrite the files that the tests compare with")

// record is an event as a destination finds it.
func record(ev *event.Event) *Record {
	r := &Record{
		Time: ev.Time.UnixNano(), Observed: ev.Observed.UnixNano(), Kind: ev.Kind(), Severity: ev.Payload.Severity(),
		Body: strings.ToValidUTF8(string(ev.Payload.AppendBody(nil)), "?"), Attributes: ev.AppendAttributes(nil), Resource: sample.Resource(),
	}
	if ev.Sandbox != nil {
		r.Resource = ev.Sandbox.AppendAttributes(r.Resource)
	}
	return r
}

// samples is the sample session, and what it lacks.
func samples() []*Record {
	var records []*Record
	for _, ev := range sample.Events() {
		records = append(records, record(ev))
	}
	for i, payload := range slices.Concat(sample.Claims(), sample.Others()) {
		ev := *sample.Events()[1]
		ev.Seq, ev.Payload = uint64(100+i), payload
		records = append(records, record(&ev))
	}
	return records
}

// synthetic is one record of each kind there is, with a value for each attribute that it, its process, its
// agent and its sandbox can have.
func synthetic() []*Record {
	forms := map[event.Key]event.ValueKind{}
	for _, a := range event.Attributes() {
		forms[a.Key] = a.Form
	}
	attribute := func(key event.Key) event.Attribute {
		value := event.String("text")
		switch forms[key] {
		case event.ValueInt:
			value = event.Int(7)
		case event.ValueDouble:
			value = event.Double(1.5)
		case event.ValueBool:
			value = event.Bool(true)
		case event.ValueStrings:
			value = event.Strings([]string{"T1059.004", "T1059"})
		case event.ValueMap:
			value = event.Counts([]event.Count{{Name: "read", N: 1}})
		default: // text
		}
		switch key {
		case event.ProcessCreationTime, event.ProcessExitTime:
			value = event.Timestamp(sample.Start())
		case event.NetworkType:
			value = event.String("ipv6")
		case event.NetworkPeerAddress, event.NetworkLocalAddress, event.ClientAddress:
			value = event.String("::1")
		case event.ProcessEnvironment:
			key += ".HOME"
		default:
		}
		return event.Attribute{Key: key, Value: value}
	}
	process := sample.Events()[1]
	var records []*Record
	for _, kind := range event.Kinds() {
		r := &Record{Time: sample.Start().UnixNano(), Observed: sample.Start().UnixNano() + 1, Kind: kind.Kind, Severity: event.SeverityHigh, Body: "body"}
		r.Resource = process.Sandbox.AppendAttributes(sample.Resource())
		seen := map[event.Key]bool{}
		for _, key := range kind.Attributes {
			a := attribute(key)
			r.Attributes, seen[a.Key] = append(r.Attributes, a), true
		}
		exit := &event.Event{Process: process.Process, Payload: &event.SandboxStart{}}
		for _, a := range exit.AppendAttributes(nil) {
			if !seen[a.Key] {
				r.Attributes = append(r.Attributes, a)
			}
		}
		records = append(records, r)
	}
	return records
}

// MarshalJSON keeps the order of the fields.
func (o *Object) MarshalJSON() ([]byte, error) { return marshal(o.Fields) }

func marshal(fields []Field) ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			buf.WriteByte(',')
		}
		name, _ := json.Marshal(f.Name)
		value, err := json.Marshal(f.Value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&buf, "%s:%s", name, value)
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// TestGolden shows what each event looks like in each profile.
func TestGolden(t *testing.T) {
	m := NewMapper()
	for name, convert := range map[string]func(*Record) []Field{
		OCSF: func(r *Record) []Field { return m.OCSF(r).Fields },
		ECS:  m.ECS,
	} {
		var got bytes.Buffer
		for _, r := range samples() {
			line, err := marshal(convert(r))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Indent(&got, line, "", " "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
		}
		sample.Golden(t, "testdata/"+name+".golden", got.Bytes(), *update)
	}
}

// TestNothingIsLeftOut: every attribute's value is somewhere in each profile.
func TestNothingIsLeftOut(t *testing.T) {
	m := NewMapper()
	for _, r := range slices.Concat(samples(), synthetic()) {
		ocsf, _ := marshal(m.OCSF(r).Fields)
		ecs, _ := marshal(m.ECS(r))
		for _, a := range slices.Concat(r.Attributes, r.Resource) {
			if a.Key == event.NetworkType || a.Value.Kind() != event.ValueString && a.Value.Kind() != event.ValueInt {
				continue // ipv6 is 6, and a list may be a command line
			}
			switch a.Key {
			case event.ProcessCreationTime, event.ProcessExitTime:
				continue // as milliseconds, in OCSF
			default:
			}
			value, _ := json.Marshal(plain(a.Value))
			text := strings.Trim(string(value), `"`)
			for profile, encoded := range map[string][]byte{OCSF: ocsf, ECS: ecs} {
				if !bytes.Contains(encoded, []byte(text)) {
					t.Errorf("%s: %s: %s=%s is left out", r.Kind, profile, a.Key, text)
				}
			}
		}
	}
}

// schema is testdata/ocsf-1.8.json.
type schema struct {
	Source, Version string
	Base            map[string]string
	BaseRequired    []string          `json:"base_required"`
	HostProfile     map[string]string `json:"host_profile"`
	Classes         map[string]struct {
		Name       string
		Activities map[string]string
		structure
	}
	Objects map[string]structure
}

type structure struct {
	Attributes map[string]string
	Required   []string
	AtLeastOne []string `json:"at_least_one"`
}

func TestOCSFSchema(t *testing.T) {
	text, err := os.ReadFile("testdata/ocsf-1.8.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Version != OCSFVersion {
		t.Errorf("the schema is %s, events say %s", s.Version, OCSFVersion)
	}
	m := NewMapper()
	for _, r := range slices.Concat(samples(), synthetic()) {
		o := m.OCSF(r)
		class, ok := s.Classes[fmt.Sprint(o.Get("class_uid"))]
		if !ok {
			t.Errorf("%s: there is no class %v", r.Kind, o.Get("class_uid"))
			continue
		}
		activity, _ := o.Get("activity_id").(int64)
		uid, _ := o.Get("class_uid").(int64)
		caption, ok := class.Activities[fmt.Sprint(activity)]
		if !ok || activity != other && caption != o.Get("activity_name") || o.Get("type_uid") != uid*100+activity {
			t.Errorf("%s: activity %d (%v), type %v of class %s", r.Kind, activity, o.Get("activity_name"), o.Get("type_uid"), class.Name)
		}
		if category, _ := o.Get("category_uid").(int64); category != uid/1000 {
			t.Errorf("%s: category %d of class %d", r.Kind, category, uid)
		}
		whole := structure{map[string]string{}, slices.Concat(s.BaseRequired, class.Required), class.AtLeastOne}
		for _, part := range []map[string]string{s.Base, class.Attributes} {
			maps.Copy(whole.Attributes, part)
		}
		if metadata, _ := o.Get("metadata").(*Object); metadata.Get("profiles") != nil {
			maps.Copy(whole.Attributes, s.HostProfile)
		}
		s.check(t, string(r.Kind), o, whole)
	}
}

// check holds an object to what the schema says of its class.
func (s *schema) check(t *testing.T, where string, o *Object, want structure) {
	t.Helper()
	for _, name := range want.Required {
		if o.Get(name) == nil {
			t.Errorf("%s lacks %s, which is required", where, name)
		}
	}
	if len(want.AtLeastOne) > 0 && !slices.ContainsFunc(want.AtLeastOne, func(name string) bool { return o.Get(name) != nil }) {
		t.Errorf("%s has none of %v", where, want.AtLeastOne)
	}
	seen := map[string]bool{}
	for _, f := range o.Fields {
		if seen[f.Name] {
			t.Errorf("%s.%s stands twice", where, f.Name)
		}
		seen[f.Name] = true
		kind, ok := want.Attributes[f.Name]
		if !ok {
			t.Errorf("%s.%s is not in the schema", where, f.Name)
			continue
		}
		s.checkValue(t, where+"."+f.Name, f.Value, kind)
	}
}

func (s *schema) checkValue(t *testing.T, where string, value any, kind string) {
	t.Helper()
	if kind == "object" { // unmapped: whatever the source has
		return
	}
	right := false
	if one, list := strings.CutSuffix(kind, "[]"); list {
		switch v := value.(type) {
		case []string:
			right = one == "string_t"
		case []*Object:
			right = true
			for i, inner := range v {
				s.checkValue(t, fmt.Sprintf("%s[%d]", where, i), inner, one)
			}
		}
	} else {
		switch v := value.(type) {
		case string:
			right = slices.Contains([]string{"string_t", "hostname_t", "ip_t", "url_t", "file_path_t", "file_hash_t"}, kind)
		case int64:
			right = slices.Contains([]string{"integer_t", "long_t", "timestamp_t", "port_t"}, kind)
		case bool:
			right = kind == "boolean_t"
		case *Object:
			var structure structure
			if structure, right = s.Objects[kind]; right {
				s.check(t, where, v, structure)
			}
		}
	}
	if !right {
		t.Errorf("%s is a %T, the schema wants %s", where, value, kind)
	}
}

func TestECSSchema(t *testing.T) {
	file, err := os.Open("testdata/ecs-9.4.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	types := map[string]string{}
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if name, kind, ok := strings.Cut(scanner.Text(), ","); ok && !strings.HasPrefix(name, "#") {
			types[name] = kind
		}
	}
	if len(types) < 100 {
		t.Fatalf("%d fields in the schema", len(types))
	}
	allowed := map[string][]string{
		"event.kind":     {"alert", "event", "metric"},
		"event.outcome":  {"failure", "success", "unknown"},
		"event.category": {"api", "file", "host", "intrusion_detection", "network", "process", "session"},
		"event.type": {
			"access", "allowed", "change", "connection", "creation", "deletion", "denied", "end", "error", "info", "protocol", "start",
		},
	}
	m := NewMapper()
	for _, r := range slices.Concat(samples(), synthetic()) {
		seen := map[string]bool{}
		for _, f := range m.ECS(r) {
			if seen[f.Name] {
				t.Errorf("%s: %s stands twice", r.Kind, f.Name)
			}
			seen[f.Name] = true
			kind, ok := types[f.Name]
			right := false
			switch v := f.Value.(type) {
			case string:
				right = kind == "string" || kind == "string[]"
				checkAllowed(t, r.Kind, f.Name, allowed[f.Name], v)
			case []string:
				right = kind == "string[]"
				checkAllowed(t, r.Kind, f.Name, allowed[f.Name], v...)
			case int64, float64:
				right = kind == "number"
			case bool:
				right = kind == "boolean"
			}
			if strings.HasPrefix(f.Name, own) {
				continue
			}
			if !ok || !right {
				t.Errorf("%s: %s is a %T, the schema wants %q", r.Kind, f.Name, f.Value, kind)
			}
		}
		for _, name := range []string{"event.kind", "event.category", "event.type", "event.action", "ecs.version", "message"} {
			if !seen[name] {
				t.Errorf("%s: no %s", r.Kind, name)
			}
		}
	}
}

func checkAllowed(t *testing.T, kind event.Kind, name string, allowed []string, values ...string) {
	t.Helper()
	for _, v := range values {
		if allowed != nil && !slices.Contains(allowed, v) {
			t.Errorf("%s: %s is %q, which ECS does not know", kind, name, v)
		}
	}
}

func TestSeverities(t *testing.T) {
	for severity, want := range map[event.Severity][2]float64{
		event.SeverityDebug: {1, 0}, event.SeverityInfo: {1, 0}, event.SeverityLow: {2, 21}, event.SeverityMedium: {3, 47},
		event.SeverityHigh: {4, 73}, event.SeverityCritical: {5, 99},
	} {
		id, _ := ocsfSeverity(severity)
		if got := [2]float64{float64(id), RiskScore(severity)}; got != want {
			t.Errorf("severity %d is %v, want %v", severity, got, want)
		}
	}
}

// TestEachKeyIsKnown: the table's names are in the registry.
func TestEachKeyIsKnown(t *testing.T) {
	known := map[event.Key]bool{}
	for _, a := range event.Attributes() {
		known[a.Key] = true
	}
	for _, row := range table() {
		if !known[row.key] {
			t.Errorf("%s is no attribute", row.key)
		}
	}
}

// TestPage holds docs/profiles.md to the table.
func TestPage(t *testing.T) {
	const page = "../../docs/profiles.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const heading = "## Attributes\n\n"
	before, _, ok := bytes.Cut(text, []byte(heading))
	if !ok {
		t.Fatalf("%s has no %q", page, heading)
	}
	want := bytes.NewBuffer(before)
	want.WriteString(heading + "| attribute | ECS | OCSF |\n|---|---|---|\n")
	cell := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	for _, row := range table() {
		fmt.Fprintf(want, "| `%s` | %s | %s |\n", row.key, cell(row.ecs), cell(row.ocsf))
	}
	sample.Golden(t, page, want.Bytes(), *update)
}
