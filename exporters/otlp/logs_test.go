// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/watchglass/watchglass/event"
)

// FuzzRecord: whatever bytes a sandbox makes, the record can be encoded, and says what was rewritten.
// One string that is not UTF-8 would make the whole request fail, and with it other sandboxes' events.
func FuzzRecord(f *testing.F) {
	f.Add("a", "b", int64(1))
	f.Add("\xff\\", "\x00\u2028\xc3", int64(-1))
	f.Fuzz(func(t *testing.T, a, b string, n int64) {
		ev := &event.Event{
			Instance: a, Seq: uint64(n), Sandbox: &event.Sandbox{ID: a, Name: b, Runtime: b, Cgroup: a},
			Process: &event.Process{Name: a, Executable: b, Cgroup: a, Agent: &event.Agent{SessionID: b, CallID: a}},
			Payload: &event.ProcessExec{
				Args: []string{a, b}, Executable: a, Filename: b, WorkingDirectory: a, Ancestry: []string{b, a},
				Env: []event.EnvVar{{Name: a, Value: b}},
			},
		}
		e, generated := NewEncoder(nil), &reference{}
		var encoded event.Encoded
		e.Encode(&encoded, ev)
		_, record := decode(t, encoded)
		if diff := cmp.Diff(generated.record(ev), record, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		summary := *ev
		summary.Payload = &event.SyscallSummary{Counts: []event.Count{{Name: a, N: n}, {Name: b, N: n}}}
		e.Encode(&encoded, &summary)
		if res, got := decode(t, encoded); !proto.Equal(got, generated.record(&summary)) || !proto.Equal(res, generated.resource(ev.Sandbox)()) {
			t.Errorf("got %v and %v, want %v", res, got, generated.record(&summary))
		}
		checkEscaped(t, record, a, b)
	})
}

// checkEscaped holds an exec's arguments to what was passed.
func checkEscaped(t *testing.T, record *logs.LogRecord, a, b string) {
	t.Helper()
	attributes := plainMap(record.GetAttributes())
	escaped, _ := attributes[string(event.CaptureEscaped)].([]any)
	rewritten := slices.Contains(escaped, any(string(event.ProcessCommandArgs)))
	valid := utf8.ValidString(a) && utf8.ValidString(b)
	if rewritten == valid {
		t.Errorf("%q, %q: rewritten %v, valid %v", a, b, rewritten, valid)
	}
	if args, _ := attributes[string(event.ProcessCommandArgs)].([]any); valid && !slices.Equal(args, []any{a, b}) {
		t.Errorf("%q, %q came back as %q", a, b, args)
	}
}
