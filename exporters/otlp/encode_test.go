// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

// encoded is a record and its resource, decoded.
func decode(t testing.TB, e event.Encoded) (*resource.Resource, *logs.LogRecord) {
	t.Helper()
	var res resource.Resource
	var record logs.LogRecord
	strict := proto.UnmarshalOptions{DiscardUnknown: false}
	if err := strict.Unmarshal(e.Resource, &res); err != nil {
		t.Fatalf("%s: resource: %v", e.Kind, err)
	}
	if err := strict.Unmarshal(e.Record, &record); err != nil {
		t.Fatalf("%s: record: %v", e.Kind, err)
	}
	if len(record.ProtoReflect().GetUnknown())+len(res.ProtoReflect().GetUnknown()) > 0 {
		t.Fatalf("%s: fields that OTLP does not have: %v", e.Kind, &record)
	}
	return &res, &record
}

// everything is the sample, all claims, and what is long, empty, hostile or at the end of its range.
func everything() []*event.Event {
	events := sample.Events()
	add := func(p *event.Process, payload event.Payload) {
		ev := *events[1]
		ev.Seq, ev.Process, ev.Payload = uint64(len(events)+1), p, payload
		events = append(events, &ev)
	}
	for _, payload := range slices.Concat(sample.Claims(), sample.Others()) {
		add(sample.Process(), payload)
	}
	long := strings.Repeat("x", 127)
	add(nil, &event.ProcessExec{Args: []string{long, long + "x", strings.Repeat("\xff", 1<<14)}, ArgsCount: 3})
	add(&event.Process{Start: sample.Start()}, &event.ProcessExec{
		Executable: "/x", Args: []string{}, Env: []event.EnvVar{{Name: "A\xff" + long, Value: ""}, {Name: "B", Value: "\\"}},
	})
	add(nil, &event.SyscallSummary{Counts: []event.Count{{Name: "a\xff", N: -1}, {Name: "b\\", N: 1 << 62}}})
	add(nil, &event.NetworkConnect{Transport: event.TransportUDP, Peer: netip.MustParseAddrPort("[fe80::1%eth0]:53")})
	early := *events[0]
	early.Time, early.Observed, early.Seq, early.Instance = time.Time{}, time.Unix(0, 0), 1<<64-1, "i\xff"
	return append(events, &early)
}

// TestEncode holds the encoder to what the generated types make of the same event.
func TestEncode(t *testing.T) {
	t.Parallel()
	program := sample.Resource()
	e, generated := NewEncoder(program), &reference{program: program}
	var encoded event.Encoded
	for _, ev := range everything() {
		e.Encode(&encoded, ev)
		res, record := decode(t, encoded)
		if diff := cmp.Diff(generated.record(ev), record, protocmp.Transform()); diff != "" {
			t.Errorf("%s:\n%s", ev.Kind(), diff)
		}
		if diff := cmp.Diff(generated.resource(ev.Sandbox)(), res, protocmp.Transform()); diff != "" {
			t.Errorf("%s: resource:\n%s", ev.Kind(), diff)
		}
		want := event.Encoded{
			Seq: ev.Seq, Instance: ev.Instance, Time: ev.Time, Kind: ev.Kind(), Severity: ev.Payload.Severity(),
			Session: ev.Session(), Record: encoded.Record, Resource: encoded.Resource,
		}
		if ev.Sandbox != nil {
			want.Sandbox = ev.Sandbox.ID
		}
		if diff := cmp.Diff(want, encoded); diff != "" {
			t.Errorf("%s: %s", ev.Kind(), diff)
		}
	}
}

// TestDecode reads back what was encoded.
func TestDecode(t *testing.T) {
	t.Parallel()
	for i, e := range encode(everything()) {
		ev := everything()[i]
		got, err := Decode(&e)
		if err != nil {
			t.Fatal(err)
		}
		res, record := decode(t, e)
		trace, span := ev.Trace()
		if got.Kind != ev.Kind() || got.Severity != ev.Payload.Severity() || got.Body != record.GetBody().GetStringValue() ||
			got.Time.UnixNano() != max(0, ev.Time.UnixNano()) || trace != [16]byte{} && got.TraceID != hex.EncodeToString(trace[:]) ||
			span != [8]byte{} && got.SpanID != hex.EncodeToString(span[:]) {
			t.Errorf("%s came back as %+v", ev.Kind(), got)
		}
		if len(got.Resource) != len(res.GetAttributes()) || len(got.Attributes) != len(record.GetAttributes()) {
			t.Fatalf("%s: %d and %d attributes came back", ev.Kind(), len(got.Resource), len(got.Attributes))
		}
		for j, a := range ev.AppendAttributes(nil) {
			if back := got.Attributes[j]; back.Key != a.Key && utf8.ValidString(string(a.Key)) || utf8.ValidString(a.Value.Text()) && back.Value.Text() != a.Value.Text() {
				t.Errorf("%s: %s = %s came back as %s = %s", ev.Kind(), a.Key, a.Value.Text(), back.Key, back.Value.Text())
			}
		}
	}
	for _, wrong := range []event.Encoded{{Record: []byte{0x0a}}, {Resource: []byte{0xff}}, {Record: []byte{0x32, 2, 0x0a, 9}}} {
		if _, err := Decode(&wrong); err == nil {
			t.Errorf("%v was decoded", wrong)
		}
	}
}

// TestDecoder: a Decoder reads what Decode reads, of one event after the other, and allocates once but for lists and ids. What it
// returned does not change with the event's bytes.
func TestDecoder(t *testing.T) {
	var d Decoder
	spared := 0
	for _, e := range encode(everything()) {
		want, err := Decode(&e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Decode(&e)
		if err != nil {
			t.Fatal(err)
		}
		plain := true
		for i, a := range want.Attributes {
			if back := got.Attributes[i]; back.Key != a.Key || back.Value.Kind() != a.Value.Kind() || back.Value.Text() != a.Value.Text() {
				t.Errorf("%s: %s = %s, want %s = %s", e.Kind, back.Key, back.Value.Text(), a.Key, a.Value.Text())
			}
			plain = plain && a.Value.Kind() != event.ValueStrings && a.Value.Kind() != event.ValueMap
		}
		if got.Kind != want.Kind || got.Body != want.Body || !got.Time.Equal(want.Time) || got.TraceID != want.TraceID ||
			got.SpanID != want.SpanID || len(got.Attributes) != len(want.Attributes) || len(got.Resource) != len(want.Resource) {
			t.Errorf("%s: got %+v, want %+v", e.Kind, got, want)
		}
		if plain && want.TraceID == "" && want.SpanID == "" {
			spared++
			n := testing.AllocsPerRun(10, func() {
				if _, err := d.Decode(&e); err != nil {
					t.Error(err)
				}
			})
			if n > 1 {
				t.Errorf("%s: %v allocations, want one", e.Kind, n)
			}
		}
		body := strings.Clone(got.Body)
		clear(e.Record)
		if got.Body != body {
			t.Errorf("%s: what was read changes with the event", e.Kind)
		}
	}
	if spared == 0 {
		t.Error("no event is without lists and ids")
	}
}

// TestEncodeAllocates: nothing, once warm, whatever the event.
func TestEncodeAllocates(t *testing.T) {
	e := NewEncoder(sample.Resource())
	to := event.Encoded{Record: make([]byte, 0, 1<<20)}
	for _, ev := range everything() {
		if n := testing.AllocsPerRun(100, func() { e.Encode(&to, ev) }); n != 0 {
			t.Errorf("%s %.20q: %v allocations, want none", ev.Kind(), ev.Payload.AppendBody(nil), n)
		}
	}
}

// TestResources: the cache forgets, and shares what it has.
func TestResources(t *testing.T) {
	t.Parallel()
	e := NewEncoder(nil)
	first := &event.Sandbox{ID: "first"}
	before := e.resource(first)
	for i := range 3*maxResources + 1 {
		res := e.resource(&event.Sandbox{ID: fmt.Sprint(i)})
		if !strings.Contains(string(res), fmt.Sprint(i)) {
			t.Fatalf("sandbox %d got the resource %q", i, res)
		}
		if got := e.resource(first); &got[0] != &before[0] {
			t.Fatalf("after %d others, the resource of a sandbox in use was made anew", i)
		}
	}
	if n := len(e.resources.recent) + len(e.resources.old); n > 2*maxResources {
		t.Errorf("%d resources are kept, want at most %d", n, 2*maxResources)
	}
}

// TestAssemble holds the requests to what the generated types make.
func TestAssemble(t *testing.T) {
	t.Parallel()
	e, generated := NewEncoder(sample.Resource()), &reference{program: sample.Resource()}
	var a Assembler
	sandboxes := []*event.Sandbox{sample.Sandbox(), nil, {ID: "other"}, sample.Sandbox()} // the last is another of the same
	for _, n := range []int{1, 2, len(everything())} {
		request := newRequest()
		var batch []event.Encoded
		for i, ev := range everything()[:n] {
			ev.Sandbox = sandboxes[i*i%len(sandboxes)]
			var encoded event.Encoded
			e.Encode(&encoded, ev)
			batch = append(batch, encoded)
			request.add(generated.resource(ev.Sandbox), ev.Sandbox, generated.record(ev))
		}
		var got collogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(a.Append(nil, batch), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(request.message(), &got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	if got := a.Append(nil, nil); len(got) != 0 {
		t.Errorf("a request of nothing has %d bytes", len(got))
	}
}

// FuzzAssemble: whatever strings a sandbox makes, the request can be decoded, and holds each record once, under
// its own resource.
func FuzzAssemble(f *testing.F) {
	f.Add("a", "b", uint64(7), uint8(3))
	f.Add("\xff\\", strings.Repeat("long", 50), uint64(1<<40), uint8(40))
	f.Fuzz(func(t *testing.T, a, b string, pick uint64, n uint8) {
		e, sandboxes := NewEncoder(nil), []*event.Sandbox{nil, {ID: a}, {ID: b}, {ID: a, Name: b}}
		var batch []event.Encoded
		for i := range int(n % 24) {
			ev := &event.Event{Instance: a, Seq: uint64(i), Sandbox: sandboxes[pick>>(i%32*2)&3]}
			ev.Payload = &event.ProcessExec{Args: []string{a, b}, Env: []event.EnvVar{{Name: b, Value: a}}}
			if i%3 == 0 {
				ev.Payload = &event.SyscallSummary{Counts: []event.Count{{Name: a, N: int64(i)}, {Name: b, N: int64(pick)}}}
			}
			var encoded event.Encoded
			e.Encode(&encoded, ev)
			batch = append(batch, encoded)
		}
		var got collogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(new(Assembler).Append(nil, batch), &got); err != nil {
			t.Fatal(err)
		}
		var want, have []string
		for _, encoded := range batch {
			res, record := decode(t, encoded)
			want = append(want, canonical(t, res)+canonical(t, record))
		}
		seen := map[string]bool{}
		for _, group := range got.GetResourceLogs() {
			if name := canonical(t, group.GetResource()); seen[name] {
				t.Errorf("the resource %s stands twice", name)
			} else {
				seen[name] = true
			}
			for _, record := range group.GetScopeLogs()[0].GetLogRecords() {
				have = append(have, canonical(t, group.GetResource())+canonical(t, record))
			}
		}
		slices.Sort(want)
		slices.Sort(have)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Error(diff)
		}
	})
}

// canonical is a message in the one form that equal ones share.
func canonical(t testing.TB, m proto.Message) string {
	t.Helper()
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
