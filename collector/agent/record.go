// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/watchglass/watchglass/event"
)

// How much is kept of what an agent says. The agent is inside the sandbox: nothing of it is trusted to be short.
const (
	maxName    = 256
	maxReason  = 1 << 10
	maxCommand = 16 << 10
	maxContent = 32 << 10
)

// How far a record's clock may be from ours. Agents run on this machine: a clock further away is wrong, or a lie.
const (
	maxFuture = 5 * time.Second
	maxPast   = 30 * time.Minute
)

// source is what the records of one scope have in common.
type source struct {
	resource       pcommon.Map
	scope, version string
}

// service is what the sender calls itself: a hint, since OTEL_SERVICE_NAME can say anything.
func (s *source) service() string { return text(s.resource, "service.name", maxName) }

// record is one log record or one span, as the adapters read it.
type record struct {
	*source
	channel event.Channel
	// name is the attribute event.name of a log record, and the name of a span.
	name  string
	attrs pcommon.Map
	body  pcommon.Value
	// at is when it happened, of a span its end; start is a span's start.
	at, start  time.Time
	timeSource event.TimeSource
	trace      [16]byte
	span       [8]byte
	parent     [8]byte
	// failed and message are a span's status.
	failed  bool
	message string
	events  ptrace.SpanEventSlice
}

func logRecord(s *source, lr plog.LogRecord, received time.Time) *record {
	r := &record{
		source: s, channel: event.ChannelLog, attrs: lr.Attributes(), body: lr.Body(),
		trace: lr.TraceID(), span: lr.SpanID(),
	}
	// EventName is a place in the source code for Codex: the attribute counts.
	if r.name = r.text("event.name", maxName); r.name == "" {
		r.name = cut(lr.EventName(), maxName)
	}
	r.at, r.timeSource = logTime(lr, r, received)
	return r
}

// logTime is the record's time, or what is nearest to it: Codex leaves it at zero.
func logTime(lr plog.LogRecord, r *record, received time.Time) (time.Time, event.TimeSource) {
	if at := lr.Timestamp().AsTime(); lr.Timestamp() != 0 && plausible(at, received) {
		return at, event.TimeRecord
	}
	if at := lr.ObservedTimestamp().AsTime(); lr.ObservedTimestamp() != 0 && plausible(at, received) {
		return at, event.TimeObserved
	}
	if at, err := time.Parse(time.RFC3339Nano, r.text("event.timestamp", maxName)); err == nil && plausible(at, received) {
		return at.UTC(), event.TimeRecord
	}
	return received, event.TimeReceived
}

func plausible(at, received time.Time) bool {
	return at.Before(received.Add(maxFuture)) && at.After(received.Add(-maxPast))
}

func spanRecord(s *source, sp ptrace.Span, received time.Time) *record {
	r := &record{
		source: s, channel: event.ChannelSpan, name: cut(sp.Name(), maxName), attrs: sp.Attributes(),
		trace: sp.TraceID(), span: sp.SpanID(), parent: sp.ParentSpanID(),
		failed: sp.Status().Code() == ptrace.StatusCodeError, message: cut(sp.Status().Message(), maxReason),
		at: sp.EndTimestamp().AsTime(), start: sp.StartTimestamp().AsTime(), timeSource: event.TimeSpan,
		events: sp.Events(),
	}
	if !plausible(r.at, received) {
		r.at, r.timeSource = received, event.TimeReceived
	}
	// A span may be as long as a session: only that it begins before it ends is asked.
	if r.start.After(r.at) || r.start.Before(received.Add(-maxSpan)) {
		r.start = r.at
	}
	return r
}

// maxSpan is how long a span may be.
const maxSpan = 24 * time.Hour

// text is a string attribute; numbers and truth values as they are written; "" when it is not there.
func text(attrs pcommon.Map, key string, limit int) string {
	v, ok := attrs.Get(key)
	if !ok {
		return ""
	}
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return cut(v.Str(), limit)
	case pcommon.ValueTypeInt, pcommon.ValueTypeDouble, pcommon.ValueTypeBool:
		return v.AsString()
	default: // lists, maps and bytes are no text
		return ""
	}
}

func (r *record) text(key string, limit int) string { return text(r.attrs, key, limit) }

// word is a short text: a name, a model, a decision.
func (r *record) word(key string) string { return r.text(key, maxName) }

// id is a text that can be an id, else "".
func (r *record) id(key string) string { return id(r.text(key, maxID+1)) }

// number is a whole number, which agents send as a number or as text; 0 when it is neither, or negative.
func (r *record) number(key string) int64 {
	v, ok := r.attrs.Get(key)
	if !ok {
		return 0
	}
	var n int64
	switch v.Type() {
	case pcommon.ValueTypeInt:
		n = v.Int()
	case pcommon.ValueTypeDouble:
		n = whole(v.Double())
	case pcommon.ValueTypeStr:
		parsed, err := strconv.ParseFloat(v.Str(), 64)
		if err != nil {
			return 0
		}
		n = whole(parsed)
	default:
		return 0
	}
	return max(n, 0)
}

// maxNumber is more than any count, and what a float64 still holds exactly.
const maxNumber = 1 << 53

func whole(f float64) int64 {
	if !(f >= 0 && f <= maxNumber) { // also not a number
		return 0
	}
	return int64(f)
}

// count is a number that is kept as an int.
func (r *record) count(key string) int { return int(min(r.number(key), 1<<31-1)) }

// fraction is a number with a point; 0 when it is none or negative.
func (r *record) fraction(key string) float64 {
	f, err := strconv.ParseFloat(r.word(key), 64)
	if err != nil || !(f > 0 && f <= maxNumber) {
		return 0
	}
	return f
}

// milliseconds is a duration; at most a day, since more is no duration of anything that agents do.
func (r *record) milliseconds(key string) time.Duration {
	return min(time.Duration(r.fraction(key)*float64(time.Millisecond)), maxSpan)
}

// truth is whether an attribute is true, and whether it says anything: agents send it as text too.
func (r *record) truth(key string) (value, ok bool) {
	switch r.word(key) {
	case "true", "True":
		return true, true
	case "false", "False":
		return false, true
	}
	return false, false
}

// outcome is what the attribute "success" says, which all agents have.
func (r *record) outcome() event.Outcome {
	success, ok := r.truth("success")
	switch {
	case !ok:
		return event.OutcomeUnknown
	case success:
		return event.OutcomeSuccess
	}
	return event.OutcomeFailure
}

// document is an attribute that holds a JSON object as text; empty when it does not.
func (r *record) document(key string) document {
	v, ok := r.attrs.Get(key)
	if !ok || v.Type() != pcommon.ValueTypeStr {
		return nil
	}
	return parseDocument(v.Str())
}

// document is a JSON object of which nothing is known.
type document map[string]any

func parseDocument(s string) document {
	var d document
	if json.Unmarshal([]byte(s), &d) != nil {
		return nil
	}
	return d
}

func (d document) text(key string, limit int) string {
	s, _ := d[key].(string)
	return cut(s, limit)
}

func (d document) object(key string) document {
	o, _ := d[key].(map[string]any)
	return o
}

func (d document) truth(key string) bool {
	b, _ := d[key].(bool)
	return b
}

// number is a whole number, also a negative one.
func (d document) number(key string) (int, bool) {
	f, ok := d[key].(float64)
	if !ok || f != float64(int32(f)) {
		return 0, false
	}
	return int(f), true
}

// command is a command line: a text, or a list of arguments of which a shell's own are left out.
func (d document) command(keys ...string) string {
	for _, key := range keys {
		switch v := d[key].(type) {
		case string:
			return cut(v, maxCommand)
		case []any:
			return cut(commandOf(v), maxCommand)
		}
	}
	return ""
}

// commandOf is the command line of a list of arguments: what a shell is given, else the arguments in a row.
func commandOf(list []any) string {
	args := make([]string, 0, len(list))
	for _, v := range list {
		if s, ok := v.(string); ok {
			args = append(args, s)
		}
	}
	if len(args) == 3 && isShell(args[0]) && (args[1] == "-c" || args[1] == "-lc") {
		return args[2]
	}
	return strings.Join(args, " ")
}

func isShell(program string) bool {
	switch program[strings.LastIndexByte(program, '/')+1:] {
	case "sh", "bash", "dash", "zsh", "ash":
		return true
	}
	return false
}

// cut is the beginning of s, whole characters, at most limit bytes; a copy when it is shorter, not to keep the rest.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return strings.Clone(s[:limit])
}

// firstLine is the first line of a text, at most maxReason bytes of it.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return cut(line, maxReason)
}
