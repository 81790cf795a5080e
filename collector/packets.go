// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"net/netip"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/session"
	"github.com/watchglass/watchglass/event"
)

const (
	// maxQuestions bounds the questions of one sandbox that wait for an answer.
	maxQuestions = 1024
	// questionPatience is for how long they do: resolvers ask again after five seconds.
	questionPatience = 5 * time.Second
	// dnsPort is where name servers listen.
	dnsPort = 53
)

// question is what pairs a question with its answer. The port is the asker's own.
type question struct {
	transport event.Transport
	server    netip.AddrPort
	port      uint16
	id        uint16
	name      string
	kind      string
}

// asked is a question that waits. Of more than 128 bytes each would have memory of its own in the map.
type asked struct {
	question
	at  time.Time
	who *event.Process
	// ring is whether it was sent through io_uring.
	ring bool
}

// via is how it was sent.
func (a *asked) via() event.Via {
	if a.ring {
		return event.ViaURing
	}
	return ""
}

// questions is the questions of one sandbox that wait for an answer, oldest first.
type questions struct {
	waiting map[question]asked
	order   []asked // may hold ones that were answered
	gone    int     // how many of order, its first, are taken out
}

func questionOf(m *bpf.DNSMessage) question {
	return question{m.Transport, m.Peer, m.LocalPort, m.ID, m.Name, m.Type}
}

// ask notes a question; one that is asked again keeps its time. The result is questions that no longer wait,
// for lack of room.
func (q *questions) ask(m *bpf.DNSMessage, who *event.Process, at time.Time) []asked {
	key := questionOf(m)
	if _, again := q.waiting[key]; again {
		return nil
	}
	if q.waiting == nil {
		q.waiting = map[question]asked{}
	}
	var given []asked
	if len(q.waiting) >= maxQuestions {
		given = q.take(func(*asked) bool { return len(q.waiting) >= maxQuestions })
	}
	q.waiting[key] = asked{key, at, who, m.Via == event.ViaURing}
	if len(q.order) == cap(q.order) && q.gone > len(q.order)/2 {
		// The room of those that are gone is used again.
		kept := copy(q.order, q.order[q.gone:])
		clear(q.order[kept:])
		q.order, q.gone = q.order[:kept], 0
	}
	q.order = append(q.order, q.waiting[key])
	return given
}

// answered takes out the question that a message answers.
func (q *questions) answered(m *bpf.DNSMessage) (asked, bool) {
	key := questionOf(m)
	a, found := q.waiting[key]
	delete(q.waiting, key)
	return a, found
}

// expire takes out the questions that were asked no later than a time.
func (q *questions) expire(until time.Time) []asked {
	return q.take(func(a *asked) bool { return !a.at.After(until) })
}

// take takes out the oldest questions while they are to go.
func (q *questions) take(goes func(*asked) bool) []asked {
	var over []asked
	for q.gone < len(q.order) {
		oldest := &q.order[q.gone]
		if a, waits := q.waiting[oldest.question]; waits && a.at.Equal(oldest.at) {
			if !goes(oldest) {
				break
			}
			over = append(over, a)
			delete(q.waiting, oldest.question)
		}
		*oldest = asked{}
		q.gone++
	}
	if q.gone == len(q.order) {
		q.order, q.gone = q.order[:0], 0
	}
	return over
}

// whoIs is the process of a record, nil for one that is in nobody's name.
func (p *Pipeline) whoIs(r *bpf.Record) *event.Process {
	if r.Task.PID == 0 {
		return nil
	}
	return p.tree.Seen(r)
}

// dns takes a DNS message: an answer names addresses, and with its question makes an event.
func (p *Pipeline) dns(state *sandboxState, r *bpf.Record, m *bpf.DNSMessage) {
	if m.Name == "" && m.Type == "" {
		return // it could not be read
	}
	p.start(state, r.Time)
	if m.Answer == m.Sent {
		return // a name server in the sandbox: its own questions tell what it does
	}
	if m.Sent {
		p.tellUnanswered(state, state.questions.ask(m, p.whoIs(r), r.Time))
		return
	}
	state.names.add(&m.NameAnswers, r.Time)
	a, found := state.questions.answered(m)
	told := p.made.queries.New()
	*told = event.DNSQuery{
		Name: m.Name, Type: m.Type, Transport: m.Transport, Server: m.Peer, Code: m.Code, Records: m.Records,
		Addresses: p.made.addresses.Make(len(m.Answers)),
	}
	for i, answer := range m.Answers {
		told.Addresses[i] = answer.Addr
	}
	if found {
		told.Latency, told.Via = r.Time.Sub(a.at), a.via()
	}
	p.publish(p.made.event(r, event.Event{
		Time: r.Time, Sandbox: state.sandbox, Process: a.who, Truncated: r.Truncated, Payload: told,
	}))
}

// unanswered tells of the questions that nobody answered in time.
func (p *Pipeline) unanswered(state *sandboxState, now time.Time) {
	p.tellUnanswered(state, state.questions.expire(now.Add(-questionPatience)))
}

func (p *Pipeline) tellUnanswered(state *sandboxState, over []asked) {
	for _, a := range over {
		p.publish(&event.Event{Time: a.at, Sandbox: state.sandbox, Process: a.who, Payload: &event.DNSQuery{
			Name: a.name, Type: a.kind, Transport: a.transport, Server: a.server, Via: a.via(),
		}})
	}
}

// stream takes bytes of a connection: what they say is told once it is known.
func (p *Pipeline) stream(state *sandboxState, r *bpf.Record, s *bpf.Stream) {
	p.start(state, r.Time)
	bytes := state.streams.add(s)
	p.evicted(state, &state.streams.evicted)
	if len(bytes) == 0 {
		return
	}
	if s.Peer.Port() == dnsPort {
		for _, m := range state.streams.messages(s) {
			p.dns(state, r, &m)
		}
		return
	}
	request, decided := readRequest(bytes)
	if !decided {
		return
	}
	state.streams.done(s)
	if request == nil {
		return
	}
	request.Transport, request.Peer, request.Via = event.TransportTCP, s.Peer, s.Via
	p.requested(state, r, request)
}

// evicted accounts for the connections that made room for others before they had said what they ask for.
func (p *Pipeline) evicted(state *sandboxState, n *uint64) {
	if *n == 0 {
		return
	}
	p.losses.note(lossKey{stage: event.LossDecode, lost: string(event.KindNetworkRequest), reason: "evicted", sandbox: state.sandbox}, *n)
	*n = 0
}

// requested tells what a connection asks for, and whose name its peer is known by from now on.
func (p *Pipeline) requested(state *sandboxState, r *bpf.Record, request *event.NetworkRequest) {
	// What a proxy is asked for is not its own name, and everybody's servers are on the loopback.
	if request.Name != "" && request.Source != "proxy" && event.ScopeOf(request.Peer.Addr()) != event.ScopeLoopback {
		state.names.said(request.Peer.Addr(), request.Name, request.Source, r.Time)
	}
	who := p.whoIs(r)
	p.publish(&event.Event{Time: r.Time, Sandbox: state.sandbox, Process: who, Truncated: r.Truncated, Payload: request})
	if who != nil {
		p.sessions.Observe(session.Fact{Sandbox: state.sandbox, Process: who, Payload: request, Time: r.Time})
		p.publishSessions()
	}
}
