// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
)

// Bounds of what is remembered until its spans are sent. Of each table the oldest goes first.
const (
	maxTraceSessions  = 1024
	maxTraceTurns     = 4 // of one session
	maxTraceRoots     = 1024
	maxTraceProcesses = 64 // of one root
	maxTraceEvents    = 64 // of one process
	maxTraceCalls     = 256
	maxTraceText      = 512
	maxTraceArgs      = 1024 // bytes, of one process
	// maxTraceHeld bounds the events of all processes together.
	maxTraceHeld = 1 << 16
)

// Traces makes of each turn of a session a trace: the turn, its model requests and tool calls, the processes of
// each call, with what they opened and connected to as the events of their spans. It is fed by the pipeline and
// remembers, within bounds, what is not complete yet. Spans that are complete it has recorded (RecordTraces), or sends
// (OpenTraces).
//
// A call whose own span the agent tells of is sent as a part of the agent's trace, below that span, and is linked to
// the turn; other calls are below the turn's span. Ids are made of what is identified: the same event sent twice
// makes the same span.
type Traces struct {
	// sender sends spans at once; nil where they are recorded, and sent by whoever reads that.
	sender   *sender
	record   *SpanRecorder
	settings Settings
	encoder  *Encoder
	sessions *table[sessionKey, *traceSession]
	roots    *table[event.ProcessID, *traceRoot]
	spans    []sandboxSpan
	// held is the events of spans that wait.
	held int
	// seq is the number of the latest recorded span; counted is when the unfinished ones were counted last.
	seq     uint64
	counted time.Time
	encoded []event.Encoded
	// evictedCalls is those of the sessions' tables, evicted all, for whoever asks.
	evictedCalls uint64
	evicted      atomic.Uint64
}

type sessionKey struct{ sandbox, session string }

type traceSession struct {
	agent   string
	sandbox *event.Sandbox
	turns   []*traceTurn
	calls   *table[string, *traceCall]
	n       int // turns so far
}

type traceTurn struct {
	trace       [16]byte
	span        [8]byte
	id          string
	prompt      int
	start, last time.Time
	sent        bool
}

type traceCall struct {
	start, end time.Time
	// waiting is what was told of a call whose process goes on: its span is sent when that has ended, or the session.
	waiting   *event.Event
	sent      bool
	trace     [16]byte
	span      [8]byte
	error     string
	approvals []*trace.Span_Event
}

// traceRoot is what an agent started, with its descendants in the order of their beginning.
type traceRoot struct {
	processes []*traceProcess
	byUID     map[event.ProcessID]*traceProcess
	omitted   int // processes
}

type traceProcess struct {
	process    *event.Process
	args       []string
	start, end time.Time
	exit       *event.ProcessExit
	events     []*trace.Span_Event
	omitted    uint32
	sent       bool
}

type sandboxSpan struct {
	sandbox *event.Sandbox
	span    *trace.Span
}

func tracesSignal() signal {
	return signal{name: "traces", method: coltrace.TraceService_Export_FullMethodName}
}

// OpenTraces prepares to send. It does not connect.
func OpenTraces(cfg Config, s Settings) (*Traces, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("otlp exporter: %w", err)
	}
	sender, err := newSender(tracesSignal(), cfg.traces(), &cfg, &s)
	if err != nil {
		return nil, err
	}
	t := newTraces(s)
	t.sender = sender
	return t, nil
}

// SpanRecorder takes finished spans in their durable form, from where OpenSpans sends them.
type SpanRecorder struct {
	// Instance is the start of the collector that makes them.
	Instance string
	// Append keeps spans, which are only lent; *journal.Journal does.
	Append func(spans []event.Encoded)
	// Unfinished is told, now and then, how many spans are begun and not finished.
	Unfinished func(n int)
}

// RecordTraces is Traces that sends nothing and has its spans recorded.
func RecordTraces(r SpanRecorder, s Settings) *Traces {
	t := newTraces(s)
	t.record = &r
	return t
}

func newTraces(s Settings) *Traces {
	return &Traces{
		settings: s, encoder: NewEncoder(s.Resource),
		sessions: newTable[sessionKey, *traceSession](maxTraceSessions), roots: newTable[event.ProcessID, *traceRoot](maxTraceRoots),
	}
}

// TracesName is the destination that exporters.otlp.traces describes.
const TracesName = "otlp-traces"

// spansName is what the exporter is called that has spans recorded: the destination that they are for is TracesName.
const spansName = "spans"

// Name implements collector.Exporter.
func (t *Traces) Name() string {
	if t.record != nil {
		return spansName
	}
	return TracesName
}

// Export takes the events of the batch into account and sends the spans that they complete. Spans that cannot be
// sent within the time of the retries are given up: an error says of how many events.
func (t *Traces) Export(ctx context.Context, batch []*event.Event) error {
	for _, e := range batch {
		t.take(e)
	}
	t.evicted.Store(t.sessions.evicted + t.roots.evicted + t.evictedCalls)
	if now := time.Now(); t.record != nil && now.Sub(t.counted) >= countInterval {
		t.counted = now
		t.record.Unfinished(t.unfinished())
	}
	return t.flush(ctx, len(batch))
}

// countInterval is how often unfinished spans are counted: all sessions are looked at for that.
const countInterval = time.Second

// unfinished is how many turns and calls have begun and are not sent.
func (t *Traces) unfinished() int {
	n := 0
	for _, s := range t.sessions.all() {
		for _, u := range s.turns {
			if !u.sent {
				n++
			}
		}
		for _, c := range s.calls.all() {
			if !c.sent && (c.waiting != nil || !c.start.IsZero()) {
				n++
			}
		}
	}
	return n
}

// Evicted is how many sessions, calls and processes were forgotten for lack of room before their spans were complete.
func (t *Traces) Evicted() uint64 { return t.evicted.Load() }

// Shutdown sends the turns that are not over, and closes the connection.
func (t *Traces) Shutdown(ctx context.Context) error {
	for key, s := range t.sessions.all() {
		t.endCalls(key, s)
		t.endTurns(key, s, s.lastOf())
	}
	err := t.flush(ctx, 0)
	if t.record != nil {
		t.record.Unfinished(0)
	} else if closeErr := t.sender.transport.close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close the connection to %s: %w", t.sender.dest.name(), closeErr)
	}
	if lost := t.Evicted(); lost > 0 {
		t.settings.Logger.Warn("some sessions, calls or processes were forgotten before their spans were complete", "forgotten", lost)
	}
	return err
}

// spansError is spans that were not delivered.
type spansError struct {
	err    error
	events int
}

func (e *spansError) Error() string { return e.err.Error() }

func (e *spansError) Unwrap() error { return e.err }

// Undelivered is how many events of the batch it is about, as far as that can be told: one for each span.
func (e *spansError) Undelivered() int { return e.events }

func (t *Traces) flush(ctx context.Context, events int) error {
	if len(t.spans) == 0 {
		return nil
	}
	spans := t.spans
	t.spans = nil
	if t.record != nil {
		return t.keep(spans)
	}
	request := &coltrace.ExportTraceServiceRequest{}
	var last *event.Sandbox
	var scope *trace.ScopeSpans
	for _, s := range spans {
		if scope == nil || s.sandbox != last {
			own, err := t.resource(s.sandbox)
			if err != nil {
				return err
			}
			scope = &trace.ScopeSpans{Scope: &common.InstrumentationScope{Name: scopeName}, SchemaUrl: event.SchemaURL}
			request.ResourceSpans = append(request.ResourceSpans, &trace.ResourceSpans{
				Resource: own, ScopeSpans: []*trace.ScopeSpans{scope}, SchemaUrl: event.SchemaURL,
			})
			last = s.sandbox
		}
		scope.Spans = append(scope.Spans, s.span)
	}
	var answer coltrace.ExportTraceServiceResponse
	if err := t.sender.send(ctx, request, &answer); err != nil {
		return &spansError{err: err, events: min(len(spans), events)}
	}
	if partial := answer.GetPartialSuccess(); partial.GetRejectedSpans() > 0 {
		return &spansError{
			err: fmt.Errorf("send traces to %s: %d of %d spans were refused: %s", t.sender.dest.name(),
				partial.GetRejectedSpans(), len(spans), printable(partial.GetErrorMessage())),
			events: min(int(partial.GetRejectedSpans()), events),
		}
	}
	return nil
}

// keep has spans recorded.
func (t *Traces) keep(spans []sandboxSpan) error {
	t.encoded = t.encoded[:0]
	for _, s := range spans {
		record, err := proto.Marshal(s.span)
		if err != nil { // of texts that are not UTF-8, which none is: the span would be refused by everybody
			return fmt.Errorf("encode a span: %w", err)
		}
		t.seq++
		t.encoded = append(t.encoded, event.Encoded{
			Seq: t.seq, Instance: t.record.Instance, Time: time.Unix(0, int64(s.span.GetEndTimeUnixNano())), Kind: event.KindSpan,
			Severity: event.SeverityInfo, Sandbox: s.sandbox.ID, Resource: t.encoder.resource(s.sandbox), Record: record,
		})
	}
	t.record.Append(t.encoded)
	clear(t.encoded)
	return nil
}

func (t *Traces) resource(s *event.Sandbox) (*resource.Resource, error) {
	var own resource.Resource
	if err := proto.Unmarshal(t.encoder.resource(s), &own); err != nil {
		return nil, fmt.Errorf("encode the resource: %w", err)
	}
	return &own, nil
}

// attributes is attributes as OTLP has them, their texts escaped like those of log records.
func (t *Traces) attributes(list []event.Attribute) []*common.KeyValue {
	const attributesOfResource = 1
	t.encoder.escaped = t.encoder.escaped[:0]
	var encoded []byte
	for i := range list {
		encoded = t.encoder.appendAttribute(encoded, attributesOfResource, &list[i])
	}
	var decoded resource.Resource
	if proto.Unmarshal(encoded, &decoded) != nil {
		return nil
	}
	return decoded.GetAttributes()
}

// take looks at one event.
func (t *Traces) take(e *event.Event) {
	if said, ok := e.Payload.(event.Said); ok {
		if c := said.Said(); c.Sender == event.SenderOwner && e.Sandbox != nil {
			t.takeClaim(e, c)
		}
		return
	}
	const ownProcess = "executable" // the agent's, which no call starts
	if e.Process == nil || e.Process.Agent == nil || e.Process.Agent.Method == ownProcess || e.Sandbox == nil {
		return
	}
	switch payload := e.Payload.(type) {
	case *event.ProcessExec:
		t.executed(e, payload)
	case *event.ProcessExit:
		t.exited(e, payload)
	case *event.FileOpen:
		if payload.Class != event.FileClassSystem && payload.Class != event.FileClassProc {
			t.note(e, string(payload.AppendBody(nil)))
		}
	case *event.NetworkConnect:
		t.note(e, string(payload.AppendBody(nil)))
	}
}

func (t *Traces) takeClaim(e *event.Event, c *event.Claim) {
	id := c.Session
	if id == "" {
		id = c.Conversation
	}
	if id == "" {
		return
	}
	key := sessionKey{e.Sandbox.ID, id}
	s := t.sessions.get(key)
	if s == nil {
		s = &traceSession{agent: c.Agent, sandbox: e.Sandbox, calls: newTable[string, *traceCall](maxTraceCalls)}
		t.sessions.put(key, s)
	}
	switch p := e.Payload.(type) {
	case *event.Prompt:
		t.prompted(e, key, s, p)
	case *event.ModelRequest:
		t.requested(e, key, s, p)
	case *event.ToolCall:
		t.called(e, key, s, p)
	case *event.Approval:
		t.approved(e, s, p)
	case *event.TurnEnd:
		if p.SubAgent == "" {
			t.endTurns(key, s, e.Time)
		}
	case *event.SessionEnd:
		t.endCalls(key, s)
		t.endTurns(key, s, e.Time)
	}
}

// sameTurn is how far two accounts of the beginning of one turn may be apart.
const sameTurn = 3 * time.Second

func (t *Traces) prompted(e *event.Event, key sessionKey, s *traceSession, p *event.Prompt) {
	if n := len(s.turns); n > 0 {
		last := s.turns[n-1]
		if !last.sent && (p.Turn != "" && last.id == p.Turn || e.Time.Sub(last.start).Abs() < sameTurn) {
			last.prompt = max(last.prompt, p.Length)
			if e.Time.Before(last.start) {
				last.start = e.Time
			}
			return
		}
	}
	t.endTurns(key, s, e.Time)
	u := t.begin(key, s, e.Time)
	u.id, u.prompt = p.Turn, p.Length
}

func (t *Traces) begin(key sessionKey, s *traceSession, at time.Time) *traceTurn {
	if len(s.turns) >= maxTraceTurns {
		s.turns = slices.Delete(s.turns, 0, 1)
	}
	s.n++
	u := &traceTurn{start: at, last: at}
	sum := identify(key.sandbox, key.session, strconv.FormatInt(at.UnixNano(), 10), strconv.Itoa(s.n))
	copy(u.trace[:], sum[:])
	copy(u.span[:], sum[16:])
	s.turns = append(s.turns, u)
	return u
}

// turnAt is the turn of a time: the last that had begun, or one that begins then.
func (t *Traces) turnAt(key sessionKey, s *traceSession, at time.Time) *traceTurn {
	for _, u := range slices.Backward(s.turns) {
		if !at.Before(u.start) {
			return u
		}
	}
	if len(s.turns) > 0 {
		return s.turns[0]
	}
	return t.begin(key, s, at)
}

func (s *traceSession) lastOf() time.Time {
	if len(s.turns) == 0 {
		return time.Time{}
	}
	return s.turns[len(s.turns)-1].last
}

// endCalls sends the calls whose processes go on.
func (t *Traces) endCalls(key sessionKey, s *traceSession) {
	for _, c := range s.calls.all() {
		if c.waiting != nil {
			t.joined(key, s, c)
		}
	}
}

// endTurns sends the turns that are not sent yet.
func (t *Traces) endTurns(key sessionKey, s *traceSession, at time.Time) {
	for _, u := range s.turns {
		if u.sent {
			continue
		}
		u.sent = true
		if at.After(u.last) {
			u.last = at
		}
		list := []event.Attribute{
			{Key: event.GenAIOperationName, Value: event.String("invoke_agent")},
			{Key: event.GenAIAgentName, Value: event.String(s.agent)},
			{Key: event.SessionID, Value: event.String(key.session)},
			{Key: event.PromptLength, Value: event.Int(int64(u.prompt))},
		}
		if u.id != "" {
			list = append(list, event.Attribute{Key: event.TurnID, Value: event.String(u.id)})
		}
		t.spans = append(t.spans, sandboxSpan{s.sandbox, &trace.Span{
			TraceId: u.trace[:], SpanId: u.span[:], Name: "invoke_agent " + spanText(s.agent), Kind: trace.Span_SPAN_KIND_INTERNAL,
			StartTimeUnixNano: nanos(u.start), EndTimeUnixNano: nanos(u.last), Attributes: t.attributes(list),
		}})
	}
}

func (t *Traces) requested(e *event.Event, key sessionKey, s *traceSession, m *event.ModelRequest) {
	start := e.Time.Add(-m.Duration)
	u := t.turnAt(key, s, start)
	u.reach(e.Time)
	sum := identify(string(u.trace[:]), "model", e.UID())
	span := &trace.Span{
		TraceId: u.trace[:], SpanId: sum[:8], ParentSpanId: u.span[:], Name: "chat " + spanText(m.Model), Kind: trace.Span_SPAN_KIND_CLIENT,
		StartTimeUnixNano: nanos(start), EndTimeUnixNano: nanos(e.Time), Attributes: t.attributes(m.AppendAttributes(nil)),
	}
	if m.Error != "" {
		span.Status = failed(m.Error)
	}
	t.spans = append(t.spans, sandboxSpan{e.Sandbox, span})
}

func (u *traceTurn) reach(at time.Time) {
	if at.After(u.last) {
		u.last = at
	}
}

func (t *Traces) call(s *traceSession, id string) *traceCall {
	c := s.calls.get(id)
	if c == nil {
		c = &traceCall{}
		if _, gone := s.calls.put(id, c); gone {
			t.evictedCalls++
		}
	}
	return c
}

func (t *Traces) approved(e *event.Event, s *traceSession, a *event.Approval) {
	const most = 8
	id := a.CallID
	if id == "" {
		id = a.ID
	}
	if id == "" {
		return
	}
	if c := t.call(s, id); len(c.approvals) < most {
		c.approvals = append(c.approvals, &trace.Span_Event{
			TimeUnixNano: nanos(e.Time), Name: "approval " + string(a.State), Attributes: t.attributes([]event.Attribute{
				{Key: event.ApprovalStateKey, Value: event.String(string(a.State))},
				{Key: event.ApprovalSource, Value: event.String(a.Decider)},
			}),
		})
	}
}

// called takes a part of a call; what the kernel saw of it completes its spans.
func (t *Traces) called(e *event.Event, key sessionKey, s *traceSession, p *event.ToolCall) {
	c := t.call(s, p.ID)
	switch p.Phase {
	case event.PhaseStart:
		if c.start.IsZero() || e.Time.Before(c.start) {
			c.start = e.Time
		}
	case event.PhaseEnd:
		c.end = e.Time
		if c.start.IsZero() {
			c.start = e.Time.Add(-p.Duration)
		}
		if p.Outcome == event.OutcomeFailure {
			c.error = p.Error
			if c.error == "" {
				c.error = "failed"
			}
		}
	case event.PhaseJoined:
		c.waiting = e
		if p.Exited || len(p.Roots) == 0 {
			t.joined(key, s, c)
		}
	}
}

// joined sends a call, once, and those of its processes that have ended since it was told of last.
func (t *Traces) joined(key sessionKey, s *traceSession, c *traceCall) {
	e := c.waiting
	p, ok := e.Payload.(*event.ToolCall)
	if !ok {
		return
	}
	c.waiting = nil
	roots := t.rootsOf(p)
	start, end := c.start, c.end
	for _, r := range roots {
		if first := r.processes[0].start; start.IsZero() || first.Before(start) {
			start = first
		}
	}
	if start.IsZero() {
		start = e.Time
	}
	if end.IsZero() || e.Time.After(end) {
		end = e.Time
	}
	u := t.turnAt(key, s, start)
	u.reach(end)
	inTrace, parent := u.trace, u.span
	var links []*trace.Span_Link
	if p.HasTrace() {
		inTrace, parent = p.TraceID, p.SpanID
		links = []*trace.Span_Link{{TraceId: u.trace[:], SpanId: u.span[:]}}
	}
	sum := identify(string(u.trace[:]), "call", p.ID)
	span := &trace.Span{
		TraceId: inTrace[:], SpanId: sum[:8], ParentSpanId: parent[:], Name: "execute_tool " + spanText(p.Name),
		Kind: trace.Span_SPAN_KIND_INTERNAL, StartTimeUnixNano: nanos(start), EndTimeUnixNano: nanos(end),
		Attributes: t.attributes(p.AppendAttributes(nil)), Events: c.approvals, Links: links,
	}
	switch {
	case c.error != "":
		span.Status = failed(c.error)
	case p.Exited && p.ExitCode != 0:
		span.Status = failed("exit code " + strconv.Itoa(p.ExitCode))
	}
	if !c.sent {
		c.sent, c.trace, c.span = true, inTrace, [8]byte(sum[:8])
		t.spans = append(t.spans, sandboxSpan{e.Sandbox, span})
	}
	for _, r := range roots {
		t.processes(e, r, c.trace, c.span)
	}
}

func (t *Traces) rootsOf(p *event.ToolCall) []*traceRoot {
	var roots []*traceRoot
	for _, id := range p.Roots {
		if r := t.roots.get(id); r != nil && len(r.processes) > 0 {
			roots = append(roots, r)
		}
	}
	return roots
}

// processes sends the processes of a root that have ended, children below their parents.
func (t *Traces) processes(e *event.Event, r *traceRoot, inTrace [16]byte, call [8]byte) {
	for _, p := range r.processes {
		if p.sent || p.end.IsZero() {
			continue // one that goes on is sent when the call is told of again
		}
		p.sent = true
		parent := call
		if r.byUID[p.process.ParentUID] != nil {
			parent = processSpan(inTrace, p.process.ParentUID)
		}
		id := processSpan(inTrace, p.process.UID)
		list := append((&event.ProcessExec{Args: p.args, ArgsCount: len(p.args)}).AppendAttributes(nil),
			event.Attribute{Key: event.ProcessPID, Value: event.Int(int64(p.process.PID))},
			event.Attribute{Key: event.ProcessUID, Value: event.String(p.process.UID.String())},
			event.Attribute{Key: event.ProcessExecutablePath, Value: event.String(p.process.Executable)})
		span := &trace.Span{
			TraceId: inTrace[:], SpanId: id[:], ParentSpanId: parent[:], Name: spanText(p.process.Name), Kind: trace.Span_SPAN_KIND_INTERNAL,
			StartTimeUnixNano: nanos(p.start), EndTimeUnixNano: nanos(p.end), Events: p.events, DroppedEventsCount: p.omitted,
		}
		if p.exit != nil {
			list = p.exit.AppendAttributes(list)
			if p.exit.Signal != 0 || p.exit.Code != 0 {
				span.Status = failed(string(p.exit.AppendBody(nil)))
			}
		}
		span.Attributes = t.attributes(list)
		t.held -= len(p.events)
		p.events, p.args = nil, nil
		t.spans = append(t.spans, sandboxSpan{e.Sandbox, span})
	}
}

func processSpan(inTrace [16]byte, uid event.ProcessID) [8]byte {
	sum := identify(string(inTrace[:]), "process", uid.String())
	return [8]byte(sum[:8])
}

// root is the entry of what a process descends from, made when it is missing and wanted.
func (t *Traces) root(e *event.Event, make bool) *traceRoot {
	r := t.roots.get(e.Process.RootUID)
	if r == nil && make {
		r = &traceRoot{byUID: map[event.ProcessID]*traceProcess{}}
		if gone, ok := t.roots.put(e.Process.RootUID, r); ok {
			for _, p := range gone.processes {
				t.held -= len(p.events)
			}
		}
	}
	return r
}

func (t *Traces) executed(e *event.Event, exec *event.ProcessExec) {
	if e.Process.RootUID == 0 {
		return
	}
	r := t.root(e, true)
	p := r.byUID[e.Process.UID]
	if p == nil {
		if len(r.processes) >= maxTraceProcesses {
			r.omitted++
			return
		}
		p = &traceProcess{start: e.Time}
		r.byUID[e.Process.UID] = p
		r.processes = append(r.processes, p)
	}
	p.process, p.args = e.Process, cutArgs(exec.Args)
}

// cutArgs is the first arguments, as far as there is room.
func cutArgs(args []string) []string {
	room := maxTraceArgs
	var kept []string
	for _, arg := range args {
		if room <= 0 {
			break
		}
		arg = spanText(arg)
		kept = append(kept, arg[:min(len(arg), room)])
		room -= len(arg)
	}
	return kept
}

func (t *Traces) exited(e *event.Event, exit *event.ProcessExit) {
	if r := t.root(e, false); r != nil {
		if p := r.byUID[e.Process.UID]; p != nil {
			p.end, p.exit = e.Time, exit
		}
	}
}

func (t *Traces) note(e *event.Event, text string) {
	r := t.root(e, false)
	if r == nil {
		return
	}
	p := r.byUID[e.Process.UID]
	switch {
	case p == nil:
	case p.sent:
	case len(p.events) >= maxTraceEvents, t.held >= maxTraceHeld:
		p.omitted++
	default:
		t.held++
		p.events = append(p.events, &trace.Span_Event{
			TimeUnixNano: nanos(e.Time), Name: string(e.Kind()), Attributes: t.attributes([]event.Attribute{
				{Key: event.LogRecordUID, Value: event.String(e.UID())},
				{Key: event.TraceDetail, Value: event.String(cutText(text))},
			}),
		})
	}
}

func failed(why string) *trace.Status {
	return &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: spanText(why)}
}

// spanText is a text that protobuf takes, not too long.
func spanText(s string) string { return printable(cutText(s)) }

func cutText(s string) string { return s[:min(len(s), maxTraceText)] }

func nanos(at time.Time) uint64 {
	if at.IsZero() || at.UnixNano() < 0 {
		return 0
	}
	return uint64(at.UnixNano())
}

// identify makes an id of parts; no two lists of parts make the same text.
func identify(parts ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range parts {
		_ = binary.Write(h, binary.LittleEndian, uint64(len(part)))
		h.Write([]byte(part))
	}
	return [sha256.Size]byte(h.Sum(nil))
}
