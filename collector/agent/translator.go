// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/watchglass/watchglass/collector/agent/bounded"
	"github.com/watchglass/watchglass/event"
)

// Content says which contents of what agents say are told on; without it only names, numbers and command
// lines are. All of it may hold secrets.
type Content struct {
	// Prompts is what the agent was asked.
	Prompts bool `yaml:"prompts"`
	// Arguments is all arguments of tool calls, Results what came of them.
	Arguments bool `yaml:"arguments"`
	Results   bool `yaml:"results"`
}

// Bounds of what a Translator remembers.
const (
	maxSenders = 1024
	// senderIdle is for how long a sandbox may be silent until it is forgotten.
	senderIdle = 30 * time.Minute
	// maxSeen is how many records of a sender are remembered, to know one that is sent again.
	maxSeen          = 8192
	maxConversations = 256
	maxCalls         = 1024
	maxBackground    = 256
)

// Verdict is what became of a record.
type Verdict uint8

// The verdicts.
const (
	// Unknown is a record of a kind that no adapter knows: a newer agent, or no agent.
	Unknown Verdict = iota
	// Silent is a record of a known kind that says nothing that is not said better elsewhere.
	Silent
	// Told made at least one statement.
	Told
	// Duplicate was told before.
	Duplicate
	// Refused had too many attributes.
	Refused
	verdicts
)

// String is the verdict as a metric's label.
func (v Verdict) String() string {
	return [...]string{"unknown", "silent", "told", "duplicate", "refused"}[min(v, verdicts-1)]
}

// Account is how many records of which agent met which verdict.
type Account map[string]*[verdicts]uint64

func (a Account) add(agent string, v Verdict) {
	counts := a[agent]
	if counts == nil {
		counts = new([verdicts]uint64)
		a[agent] = counts
	}
	counts[v]++
}

// Refused is how many records were not taken.
func (a Account) Refused() (n uint64) {
	for _, counts := range a {
		n += counts[Refused]
	}
	return n
}

// TranslatorConfig is what a Translator needs.
type TranslatorConfig struct {
	Content Content
	// MaxAttributes is how many attributes a record may have; 0 means 1024.
	MaxAttributes int
}

// Translator turns the telemetry of agents into statements. It remembers, per sandbox and within bounds,
// what was told already and what later records need to be understood. Its methods may be called from any
// goroutine; what one sandbox sends waits for no other's.
type Translator struct {
	cfg      TranslatorConfig
	adapters []Adapter
	seed     maphash.Seed
	// noted is told of every record; nil but in tests.
	noted func(*Adapter, *record, Verdict, []*Statement)

	evicted atomic.Uint64

	mu      sync.Mutex
	senders *bounded.Idle[uint64, *memory]
}

// NewTranslator makes a Translator for all known agents.
func NewTranslator(cfg TranslatorConfig) *Translator {
	if cfg.MaxAttributes == 0 {
		cfg.MaxAttributes = 1024
	}
	return &Translator{
		cfg: cfg, adapters: append(Adapters(), generic()), seed: maphash.MakeSeed(),
		senders: bounded.NewIdle[uint64, *memory](maxSenders, senderIdle),
	}
}

// memory is what is remembered of one sandbox.
type memory struct {
	mu   sync.Mutex
	seen *bounded.Table[identity, struct{}]
	// conversations is what was said at their start; calls and background are Codex's: see its adapter.
	conversations *bounded.Table[string, conversation]
	calls         *bounded.Table[string, event.ApprovalState]
	background    *bounded.Table[string, event.ToolCall]
	// sessions is the session of a trace, asked the spans in which the user was asked: opencode's.
	sessions *bounded.Table[[16]byte, string]
	asked    *bounded.Table[[8]byte, struct{}]
}

func newMemory() *memory {
	return &memory{
		seen: bounded.New[identity, struct{}](maxSeen), conversations: bounded.New[string, conversation](maxConversations),
		calls:      bounded.New[string, event.ApprovalState](maxCalls),
		background: bounded.New[string, event.ToolCall](maxBackground),
		sessions:   bounded.New[[16]byte, string](maxConversations), asked: bounded.New[[8]byte, struct{}](maxCalls),
	}
}

// Evicted is how many entries of the tables gave way to newer ones, those of the records that were seen left
// out: they are meant to.
func (t *Translator) Evicted() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.senders.Evicted() + t.evicted.Load()
}

// evictions is how many entries gave way in a sandbox's tables. mu must be held.
func (m *memory) evictions() uint64 { return m.conversations.Evicted() + m.background.Evicted() }

// enter takes the sandbox's memory for a request. The result gives it back.
func (h *hearing) enter() (leave func()) {
	h.memory.mu.Lock()
	before := h.evictions()
	return func() {
		h.evicted.Add(h.evictions() - before)
		h.memory.mu.Unlock()
	}
}

func (t *Translator) memoryOf(sandbox uint64, received time.Time) *memory {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.senders.Use(sandbox, received, newMemory)
}

// identity is what tells a record that is sent again from another that says the same: the hash of what it
// says, and which one of these it is in its request.
type identity struct {
	hash  uint64
	which uint32
}

// hearing is one request at work.
type hearing struct {
	*Translator
	*memory
	from     Origin
	received time.Time
	account  Account
	said     []*Statement
	alike    map[uint64]uint32
	// spans is the spans of the request by id, for those that say only together with their parent.
	spans map[[8]byte]ptrace.Span
	// executions and details are opencode's two spans of a call, by the call's id.
	executions, details map[string]ptrace.Span
}

func (t *Translator) begin(from Origin, received time.Time) *hearing {
	return &hearing{
		Translator: t, memory: t.memoryOf(from.Sandbox, received), from: from, received: received,
		account: Account{}, alike: map[uint64]uint32{},
	}
}

// Logs is what log records say.
func (t *Translator) Logs(logs plog.Logs, from Origin, received time.Time) ([]*Statement, Account) {
	h := t.begin(from, received)
	defer h.enter()()
	for _, rl := range logs.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			s := &source{resource: rl.Resource().Attributes(), scope: sl.Scope().Name(), version: sl.Scope().Version()}
			for _, lr := range sl.LogRecords().All() {
				if lr.Attributes().Len() > t.cfg.MaxAttributes {
					h.account.add(h.speaker(&record{source: s}).Name, Refused)
					continue
				}
				h.hear(logRecord(s, lr, received))
			}
		}
	}
	return h.said, h.account
}

// Traces is what spans say.
func (t *Translator) Traces(traces ptrace.Traces, from Origin, received time.Time) ([]*Statement, Account) {
	h := t.begin(from, received)
	h.index(traces)
	defer h.enter()()
	for _, rs := range traces.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			s := &source{resource: rs.Resource().Attributes(), scope: ss.Scope().Name(), version: ss.Scope().Version()}
			for _, sp := range ss.Spans().All() {
				if sp.Attributes().Len() > t.cfg.MaxAttributes {
					h.account.add(h.speaker(&record{source: s}).Name, Refused)
					continue
				}
				h.hear(spanRecord(s, sp, received))
			}
		}
	}
	return h.said, h.account
}

// index is the spans of a request by their ids.
func (h *hearing) index(traces ptrace.Traces) {
	h.spans, h.executions, h.details = map[[8]byte]ptrace.Span{}, map[string]ptrace.Span{}, map[string]ptrace.Span{}
	for _, rs := range traces.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, sp := range ss.Spans().All() {
				h.spans[sp.SpanID()] = sp
				if sp.Attributes().Len() > h.cfg.MaxAttributes {
					continue
				}
				switch sp.Name() {
				case "Tool.execute":
					h.executions[id(text(sp.Attributes(), "tool.call_id", maxID+1))] = sp
				case "ai.toolCall":
					h.details[id(text(sp.Attributes(), "ai.toolCall.id", maxID+1))] = sp
				}
			}
		}
	}
}

// Metrics counts metrics by who sends them. They say nothing: no agent puts into them what a session did that
// its logs or spans do not say with the session's and the call's name.
func (t *Translator) Metrics(metrics pmetric.Metrics) Account {
	account := Account{}
	for _, rm := range metrics.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			s := &source{resource: rm.Resource().Attributes(), scope: sm.Scope().Name()}
			for _, m := range sm.Metrics().All() {
				account.add(t.speaker(&record{source: s, name: m.Name()}).Name, Silent)
			}
		}
	}
	return account
}

// speaker is the adapter of whoever made a record: the first that knows its own, else the generic one.
func (t *Translator) speaker(r *record) *Adapter {
	i := slices.IndexFunc(t.adapters, func(a Adapter) bool { return a.speaks(r) })
	return &t.adapters[i]
}

// hear takes one record.
func (h *hearing) hear(r *record) {
	a := h.speaker(r)
	already := len(h.said)
	verdict := a.hear(h, r)
	if verdict == Told && h.again(r) {
		clear(h.said[already:])
		h.said = h.said[:already]
		verdict = Duplicate
	}
	h.account.add(a.Name, verdict)
	if h.noted != nil {
		h.noted(a, r, verdict, h.said[already:])
	}
}

// again says whether a record was told before.
func (h *hearing) again(r *record) bool {
	key := identity{hash: h.hash(r)}
	key.which = h.alike[key.hash]
	h.alike[key.hash]++
	if _, ok := h.seen.Get(key); ok {
		return true
	}
	h.seen.Put(key, struct{}{})
	return false
}

// hash is of all that a record says.
func (h *hearing) hash(r *record) uint64 {
	var sum maphash.Hash
	sum.SetSeed(h.seed)
	number := func(n int64) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(n))
		_, _ = sum.Write(b[:])
	}
	word := func(s string) {
		number(int64(len(s)))
		_, _ = sum.WriteString(s)
	}
	word(string(r.channel))
	word(r.scope)
	word(r.name)
	// A time that we put there ourselves is another each time.
	if r.timeSource != event.TimeReceived {
		number(r.at.UnixNano())
		number(r.start.UnixNano())
	}
	_, _ = sum.Write(r.trace[:])
	_, _ = sum.Write(r.span[:])
	for key, value := range r.attrs.All() {
		word(key)
		hashValue(value, word, number)
	}
	if r.channel == event.ChannelLog {
		hashValue(r.body, word, number)
	}
	return sum.Sum64()
}

func hashValue(v pcommon.Value, word func(string), number func(int64)) {
	number(int64(v.Type()))
	switch v.Type() {
	case pcommon.ValueTypeInt:
		number(v.Int())
	case pcommon.ValueTypeDouble:
		number(int64(math.Float64bits(v.Double())))
	case pcommon.ValueTypeStr:
		word(v.Str())
	default:
		word(v.AsString())
	}
}

// say makes a statement. The claim's own header must be filled in.
func (h *hearing) say(at time.Time, claim event.Said) {
	h.said = append(h.said, &Statement{Origin: h.from, Time: at, Claim: claim})
}

// claim is the header of what a record says: who, of which session, and how it came.
func (h *hearing) claim(r *record, agent, version, session string) event.Claim {
	c := event.Claim{
		Agent: agent, Version: cut(version, maxName), Session: session, Conversation: session,
		Channel: r.channel, TimeSource: r.timeSource, Received: h.received, TraceID: r.trace, SpanID: r.span,
	}
	if h.from.Sandbox == 0 {
		c.Sender = event.SenderUnattributed
	}
	return c
}

// sayCall tells a call's start and end by its span.
func (h *hearing) sayCall(r *record, call event.ToolCall) {
	begin := call
	begin.Phase, begin.Outcome, begin.Error, begin.Result, begin.HasExit, begin.ClaimedExit = event.PhaseStart, event.OutcomeUnknown, "", "", false, 0
	h.say(r.start, &begin)
	call.Phase, call.Duration = event.PhaseEnd, r.at.Sub(r.start)
	h.say(r.at, &call)
}
