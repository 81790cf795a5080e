// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
	"github.com/watchglass/watchglass/exporters/profile"
)

// plainField is a mapped value as plain has one that was decoded.
func plainField(value any) any {
	switch v := value.(type) {
	case []string:
		var list []any
		for _, s := range v {
			list = append(list, s)
		}
		return list
	case *profile.Object:
		return plainObject(v.Fields)
	case []*profile.Object:
		var list []any
		for _, o := range v {
			list = append(list, plainObject(o.Fields))
		}
		return list
	}
	return value
}

func plainObject(fields []profile.Field) map[string]any {
	m := map[string]any{}
	for _, f := range fields {
		m[f.Name] = plainField(f.Value)
	}
	return m
}

// reread is an event's attributes as they are once they were encoded: with what was not UTF-8 rewritten.
func reread(t *testing.T, ev *event.Event) *profile.Record {
	t.Helper()
	r := &profile.Record{
		Time: ev.Time.UnixNano(), Observed: ev.Observed.UnixNano(), Kind: ev.Kind(), Severity: ev.Payload.Severity(),
		Resource: sample.Resource(),
	}
	if ev.Sandbox != nil {
		r.Resource = ev.Sandbox.AppendAttributes(r.Resource)
	}
	var encoded event.Encoded
	NewEncoder(nil).Encode(&encoded, ev)
	_, record := decode(t, encoded)
	r.Body = record.GetBody().GetStringValue()
	for _, pair := range record.GetAttributes() {
		value := event.Value{}
		switch v := plain(pair.GetValue()).(type) {
		case string:
			value = event.String(v)
		case int64:
			value = event.Int(v)
		case float64:
			value = event.Double(v)
		case bool:
			value = event.Bool(v)
		case []any:
			list := []string{}
			for _, s := range v {
				list = append(list, s.(string))
			}
			value = event.Strings(list)
		case map[string]any:
			counts := []event.Count{}
			for _, c := range pair.GetValue().GetKvlistValue().GetValues() {
				counts = append(counts, event.Count{Name: c.GetKey(), N: c.GetValue().GetIntValue()})
			}
			value = event.Counts(counts)
		case nil: // an empty list
			value = event.Strings([]string{})
		}
		r.Attributes = append(r.Attributes, event.Attribute{Key: event.Key(pair.GetKey()), Value: value})
	}
	return r
}

// TestProfiles: what arrives is what the mapper makes, and the rest of the record is as it was.
func TestProfiles(t *testing.T) {
	t.Parallel()
	mapper := profile.NewMapper()
	for _, name := range []string{profile.OCSF, profile.ECS} {
		var s server
		cfg := s.start(t, ProtocolGRPC, nil).LogsConfig("siem")
		cfg.Profile = name
		l, err := OpenLogs(cfg, Settings{Logger: open(t, testConfig(ProtocolGRPC, s.endpoint)).trouble.log})
		if err != nil {
			t.Fatal(err)
		}
		events := sample.Events()
		batch := encode(events)
		broken := batch[1]
		broken.Record = []byte("\x08")
		rejected, err := l.Send(t.Context(), append(batch, broken))
		if err != nil || len(rejected) != 1 || rejected[0].Index != len(batch) {
			t.Fatalf("rejected %v, error %v", rejected, err)
		}
		if err := l.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if url := s.logs[0].GetResourceLogs()[0].GetScopeLogs()[0].GetSchemaUrl(); url != "" {
			t.Errorf("%s: the records claim the schema %s", name, url)
		}
		byUID := map[string]*event.Event{}
		for _, ev := range events {
			byUID[ev.UID()] = ev
		}
		for _, record := range s.records() {
			attributes := plainMap(record.GetAttributes())
			uid := fmt.Sprint(attributes["event.id"])
			if name == profile.OCSF {
				uid = fmt.Sprint(attributes["log.record.uid"])
			}
			ev := byUID[uid]
			if ev == nil {
				t.Errorf("%s: %q is no event's uid", name, uid)
				continue
			}
			want, got := plainObject(mapper.ECS(reread(t, ev))), any(attributes)
			if name == profile.OCSF {
				want, got = plainObject(mapper.OCSF(reread(t, ev)).Fields), plain(record.GetBody())
			}
			if diff := cmp.Diff(any(want), got); diff != "" {
				t.Errorf("%s: %s:\n%s", name, ev.Kind(), diff)
			}
			plainRecord := (&reference{}).record(ev)
			plainRecord.Attributes, record.Attributes = nil, nil
			if name == profile.OCSF {
				plainRecord.Body, record.Body = nil, nil
			}
			if diff := cmp.Diff(plainRecord, record, protocmp.Transform()); diff != "" {
				t.Errorf("%s: %s: the rest:\n%s", name, ev.Kind(), diff)
			}
		}
	}
}

// FuzzProfile: no bytes make the conversion panic, and what it makes can be decoded.
func FuzzProfile(f *testing.F) {
	for _, e := range encode(sample.Events()) {
		f.Add(e.Resource, e.Record)
	}
	profilers := []*profiler{newProfiler(profile.OCSF), newProfiler(profile.ECS)}
	f.Fuzz(func(_ *testing.T, resource, record []byte) {
		for _, p := range profilers {
			_, _ = p.convert(&event.Encoded{Kind: event.KindProcessExec, Resource: resource, Record: record})
		}
	})
}
