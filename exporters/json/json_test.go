// SPDX-License-Identifier: Apache-2.0

package json

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

func TestGolden(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	e := New(&out, sample.Resource())
	if err := e.Export(context.Background(), sample.Events()); err != nil {
		t.Fatal(err)
	}
	if err := e.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	sample.Golden(t, filepath.Join("testdata", "session.jsonl"), out.Bytes(), *update)
	for number, line := range bytes.Split(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\n")) {
		checkLine(t, number, line, sample.Events()[number])
	}
}

type line struct {
	Time       time.Time      `json:"time"`
	Event      string         `json:"event"`
	Severity   string         `json:"severity"`
	Body       string         `json:"body"`
	TraceID    string         `json:"trace_id"`
	SpanID     string         `json:"span_id"`
	Resource   map[string]any `json:"resource"`
	Attributes map[string]any `json:"attributes"`
}

// checkLine compares a line with the event's own enumeration.
func checkLine(t *testing.T, number int, text []byte, want *event.Event) {
	t.Helper()
	var got line
	decoder := stdjson.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Errorf("line %d: %v: %s", number, err, text)
		return
	}
	if !got.Time.Equal(want.Time) || got.Event != string(want.Kind()) || got.Severity != want.Payload.Severity().Text() {
		t.Errorf("line %d: got %v %s %s, want %v %s %s", number, got.Time, got.Event, got.Severity,
			want.Time, want.Kind(), want.Payload.Severity().Text())
	}
	attributes := want.AppendAttributes(nil)
	extra := len(got.Attributes) - len(attributes)
	if _, escaped := got.Attributes[string(event.CaptureEscaped)]; escaped {
		extra--
	}
	if extra != 0 {
		t.Errorf("line %d: %d attributes more than the event has: %s", number, extra, text)
	}
	for _, a := range attributes {
		if _, ok := got.Attributes[string(a.Key)]; !ok {
			t.Errorf("line %d: no %s", number, a.Key)
		}
	}
	if len(text) > 0 && !utf8.Valid(text) {
		t.Errorf("line %d is not UTF-8: %q", number, text)
	}
}

func TestDoubles(t *testing.T) {
	t.Parallel()
	for _, f := range []float64{0, -1.5, 1e300, 1e-300, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64} {
		var back any
		if err := stdjson.Unmarshal(appendDouble(nil, f), &back); err != nil {
			t.Errorf("%v: %v", f, err)
		}
		if got, ok := back.(float64); ok && got != f {
			t.Errorf("%v came back as %v", f, got)
		}
	}
}

// TestPlain has each byte at each place of short and of longer strings.
func TestPlain(t *testing.T) {
	for length := 1; length <= 20; length++ {
		for at := range length {
			for c := range 256 {
				s := bytes.Repeat([]byte("~"), length)
				s[at] = byte(c)
				want := c >= 0x20 && c < 0x7f && c != '"' && c != '\\'
				if plain(s) != want || plain(string(s)) != want {
					t.Fatalf("%q is taken as plain: %v", s, !want)
				}
			}
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("a", "b", "c", int64(1), 1.5)
	f.Add("\xff", "\x00\u2028\U000e0041", "\\\"\xc3", int64(math.MinInt64), math.Inf(1))
	f.Fuzz(func(t *testing.T, a, b, c string, n int64, d float64) {
		ev := &event.Event{
			Time: time.Unix(0, n), Seq: uint64(n), Instance: a,
			Sandbox: &event.Sandbox{ID: a, Name: b, Runtime: c, Cgroup: a},
			Process: &event.Process{UID: event.ProcessID(n), Name: b, Executable: c, Cgroup: a, Agent: &event.Agent{SessionID: b}},
			Payload: &payload{attributes: []event.Attribute{
				{Key: "s", Value: event.String(a)},
				{Key: event.Key(b), Value: event.Strings([]string{a, b, c})},
				{Key: "d", Value: event.Double(d)},
				{Key: "n", Value: event.Int(n)},
				{Key: "b", Value: event.Bool(n > 0)},
				{Key: "m", Value: event.Counts([]event.Count{{Name: c, N: n}})},
				{Key: "none"},
			}, body: c},
		}
		e := newEncoder([]event.Attribute{{Key: event.HostName, Value: event.String(c)}})
		out := e.append(nil, ev)
		if bytes.Count(out, []byte("\n")) != 1 || out[len(out)-1] != '\n' {
			t.Errorf("not one line: %q", out)
		}
		if !utf8.Valid(out) {
			t.Errorf("not UTF-8: %q", out)
		}
		var got line
		if err := stdjson.Unmarshal(out, &got); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if utf8.ValidString(a) && b != "s" && got.Attributes["s"] != a {
			t.Errorf("%q came back as %q", a, got.Attributes["s"])
		}
		if !utf8.ValidString(c) && !strings.Contains(string(out), `"watchglass.capture.escaped":[`) {
			t.Errorf("%q was rewritten and nothing says so: %s", c, out)
		}
	})
}

type payload struct {
	attributes []event.Attribute
	body       string
}

func (*payload) Kind() event.Kind         { return "watchglass.test" }
func (*payload) Severity() event.Severity { return event.SeverityInfo }
func (p *payload) AppendAttributes(dst []event.Attribute) []event.Attribute {
	return append(dst, p.attributes...)
}
func (p *payload) AppendBody(dst []byte) []byte { return append(dst, p.body...) }

func TestAllocations(t *testing.T) {
	events := sample.Events()
	e := newEncoder(sample.Resource())
	var buf []byte
	encode := func() {
		buf = buf[:0]
		for _, ev := range events {
			buf = e.append(buf, ev)
		}
	}
	encode()
	if n := testing.AllocsPerRun(100, encode); n != 0 {
		t.Errorf("%v allocations for %d events, want none", n, len(events))
	}
}

func BenchmarkEncode(b *testing.B) {
	events := sample.Events()
	e := newEncoder(sample.Resource())
	var buf []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		buf = e.append(buf[:0], events[i%len(events)])
	}
}

// flaky fails once, in the middle of a line.
type flaky struct {
	bytes.Buffer
	fail bool
}

func (f *flaky) Write(p []byte) (int, error) {
	if f.fail {
		f.fail = false
		n, _ := f.Buffer.Write(p[:len(p)/2])
		return n, errors.New("no space left on device")
	}
	return f.Buffer.Write(p)
}

func TestTornLine(t *testing.T) {
	t.Parallel()
	events := sample.Events()[:1]
	out := &flaky{fail: true}
	e := New(out, nil)
	if err := e.Export(context.Background(), events); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a full disk: got %v", err)
	}
	if err := e.Export(context.Background(), events); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 || !stdjson.Valid([]byte(lines[1])) {
		t.Errorf("want half a line, then a whole one; got %q", lines)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	for round, want := range []int{1, 2, 1} {
		e, err := Open(Config{Path: path, Append: round == 1}, sample.Resource())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Export(context.Background(), sample.Events()[:1]); err != nil {
			t.Fatal(err)
		}
		if err := e.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(text, []byte("\n")); got != want {
			t.Errorf("round %d: %d lines, want %d", round, got, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
}

// TestPartOfABatch: what was written before the disk was full is not counted as lost.
func TestPartOfABatch(t *testing.T) {
	t.Parallel()
	var batch []*event.Event
	for range 4 {
		ev := *sample.Events()[1]
		ev.Payload = &event.ProcessExec{Args: []string{strings.Repeat("x", flushBytes/2)}, ArgsCount: 1}
		batch = append(batch, &ev)
	}
	out := &countdown{writes: 1}
	err := New(out, nil).Export(t.Context(), batch)
	if unwritten, ok := errors.AsType[*exporters.UndeliveredError](err); !ok || unwritten.Undelivered() != 3 {
		t.Errorf("got %v, want 3 events unwritten", err)
	}
}

// countdown fails after some writes.
type countdown struct{ writes int }

func (c *countdown) Write(p []byte) (int, error) {
	if c.writes--; c.writes < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	if _, err := Open(Config{}, nil); err == nil || !strings.Contains(err.Error(), "path") {
		t.Errorf("no path: got %v", err)
	}
	missing := filepath.Join(t.TempDir(), "missing", "events.jsonl")
	if _, err := Open(Config{Path: missing}, nil); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("no directory: got %v, want an error that names %s", err, missing)
	}
}

// TestFullDisk writes to the device that is always full.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	e, err := Open(Config{Path: "/dev/full"}, nil)
	if err != nil {
		t.Skip("no /dev/full: ", err)
	}
	if err := e.Export(context.Background(), sample.Events()); err == nil || !strings.Contains(err.Error(), "/dev/full") {
		t.Errorf("got %v, want an error that names the file", err)
	}
	if err := e.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
