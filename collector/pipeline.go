// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/digest"
	"github.com/watchglass/watchglass/collector/process"
	"github.com/watchglass/watchglass/collector/session"
	"github.com/watchglass/watchglass/event"
)

// Source is where records come from; *bpf.Tracer is one.
type Source interface {
	// Run hands records to handle, one at a time, until ctx ends; then what is left, and returns nil.
	Run(ctx context.Context, handle func(*bpf.Record)) error
	Counts() ([]bpf.SandboxCounts, error)
	// SyscallCounts is of one sandbox, or of each for 0.
	SyscallCounts(sandbox uint64) ([]bpf.SyscallCounts, error)
	Probes() []event.ProbeStats
	RingStats() (size, used uint64)
	// Undecoded is how many records could not be decoded.
	Undecoded() uint64
	// Refused is how many cgroups are not watched for lack of room: nothing of them is seen.
	Refused() uint64
}

// Sandboxes is which cgroups are watched; *sandbox.Registry is one. Its methods may be called from any goroutine.
type Sandboxes interface {
	// Lookup is the sandbox whose own cgroup has the id, nil when it is not watched.
	Lookup(cgroupID uint64) *event.Sandbox
	// Sandboxes is all that are watched.
	Sandboxes() []*event.Sandbox
	// Made and Gone take the news of a cgroup; the result is the sandbox that it is or was, nil for none.
	Made(cgroupID uint64, cgroup string) *event.Sandbox
	Gone(cgroupID uint64) *event.Sandbox
	// Refused is how many sandboxes were not watched for lack of room.
	Refused() uint64
}

// Settings is what a pipeline is made of. Source, Sandboxes, Logger and BootID must be set.
type Settings struct {
	Source    Source
	Sandboxes Sandboxes
	Detectors []Detector
	Exporters []ExporterSettings
	// Classify says which class of file a path names; nil leaves the class empty.
	Classify func(path string) event.FileClass
	// Connected is told of every connect; nil for nobody. It must not block.
	Connected func(r *bpf.Record, c *event.NetworkConnect)
	Logger    *slog.Logger
	// BootID is the kernel's id of this boot.
	BootID string
	// Instance is unique per start and makes the UIDs of events; "" means NewInstance.
	Instance string
	// MaxProcesses bounds the process tree; 0 means 65,536.
	MaxProcesses int
	// Sessions is the bounds of what is remembered of agents' sessions.
	Sessions session.Config
	// SummaryInterval is how often system calls are summarised; 0 means 10 s.
	SummaryInterval time.Duration
	// Examine looks at what the set-up of a sandbox leaves open, as one of its processes shows it; nil for never.
	Examine func(pid uint32, s *event.Sandbox) (*event.SandboxPosture, error)
	// Digest knows the SHA-256 of programs; nil for none. The pipeline has it read.
	Digest *digest.Digester
	// Usage is how what sandboxes use is measured.
	Usage Usage
	// CanaryInterval is how often a finding of no consequence proves that findings arrive; 0 never.
	CanaryInterval time.Duration
	// Hold is how records are held in the kernel until they are written down; nil lets them go.
	Hold *Hold
	// Produced is told the number of each event as it gets it; nil for nobody. It must be quick.
	Produced func(seq uint64)
	// Losses is the losses that others count; nil for none. It must not wait for anything.
	Losses func() []event.LossCounter
	// Exported is told of every batch that an exporter has taken, from the exporter's goroutine; nil for nobody.
	Exported func(exporter string, batch []*event.Event)
	// ShutdownTimeout bounds how long exporters may take to deliver what is left; 0 means 10 s.
	ShutdownTimeout time.Duration
}

func (s *Settings) setDefaults() error {
	if s.Source == nil || s.Sandboxes == nil || s.Logger == nil || s.BootID == "" {
		return errors.New("collector: no source, sandboxes, logger or boot id")
	}
	if s.Instance == "" {
		s.Instance = NewInstance()
	}
	if s.MaxProcesses == 0 {
		s.MaxProcesses = 65536
	}
	if s.SummaryInterval == 0 {
		s.SummaryInterval = 10 * time.Second
	}
	if s.ShutdownTimeout == 0 {
		s.ShutdownTimeout = 10 * time.Second
	}
	return nil
}

const (
	// tickInterval is how often losses are looked for and what is over is forgotten.
	tickInterval = time.Second
	// lingerInterval is for how long a sandbox that is gone is kept for late records.
	lingerInterval = 5 * time.Second
	// processGrace is for how long an exited process is.
	processGrace = 10 * time.Second
	// abandonGrace is for how long exporters that were told to give up are waited for.
	abandonGrace = time.Second
)

// Pipeline turns records into events: New, then Run, once. Stats may be called at any time.
type Pipeline struct {
	s        Settings
	instance string
	running  atomic.Bool
	// begun is closed when Run has begun.
	begun chan struct{}
	// background is what is done beside: looking at postures.
	background sync.WaitGroup

	held held

	// mu guards what follows: records come from the source's goroutine, ticks from a timer.
	mu        sync.Mutex
	seq       uint64
	tree      *process.Tree
	sessions  *session.Tracker
	sandboxes map[uint64]*sandboxState
	outputs   []*output
	byKind    map[event.Kind][]*detector
	detectors []*detector
	report    func(*event.Finding)
	cause     *event.Event   // whose detection is going on
	asked     *detector      // by whom
	findings  []*event.Event // found by it
	made      maker
	records   uint64
	published map[event.Kind]uint64
	losses    losses
	// probes is the state of each probe that was told last.
	probes       map[string]event.ProbeState
	takeoverTold bool   // or there was none
	strangers    uint64 // records of sandboxes that nobody knows
	// toldSyscalls is what the collector before has told of counts that go on.
	toldSyscalls map[uint64]bpf.ToldSyscalls
	claims       claims
	early        []early
	summary      time.Time
	// replaying is true while a record is handled whose events are written down already.
	replaying bool
}

// sandboxState is a sandbox as the pipeline knows it.
type sandboxState struct {
	sandbox *event.Sandbox
	// started is true once sandbox.start was published: after the processes that were there are counted.
	started   bool
	firstSeen time.Time
	existing  int
	processes int
	stopped   time.Time
	outlived  []*event.Process // what its maker found alive at its end
	posture   posture
	syscalls  syscallCounts
	names     nameCache
	questions questions
	streams   streams
	hellos    hellos
	cgroups   cgroupPaths
	tally     tally
	// ended is the sessions that are over and not yet forgotten, in the order of their ends.
	ended []ended
}

// New makes a pipeline that is ready to run.
func New(s Settings) (*Pipeline, error) {
	if err := s.setDefaults(); err != nil {
		return nil, err
	}
	p := &Pipeline{
		s: s, instance: s.Instance, begun: make(chan struct{}),
		tree:      process.New(process.Config{BootID: s.BootID, Max: s.MaxProcesses, Grace: processGrace}),
		sessions:  session.New(s.Sessions),
		sandboxes: map[uint64]*sandboxState{}, byKind: map[event.Kind][]*detector{},
		published: map[event.Kind]uint64{}, losses: newLosses(), probes: map[string]event.ProbeState{}, summary: time.Now(),
	}
	p.report = p.found
	p.inheritLosses()
	p.inheritSyscalls()
	for _, e := range s.Exporters {
		o := newOutput(e, s.Logger)
		o.measure = s.Exported
		p.outputs = append(p.outputs, o)
	}
	for _, d := range s.Detectors {
		wrapped := &detector{Detector: d}
		p.detectors = append(p.detectors, wrapped)
		for _, kind := range d.Rule().Kinds {
			p.byKind[kind] = append(p.byKind[kind], wrapped)
		}
	}
	return p, nil
}

// NewInstance is an id for a start of the collector, service.instance.id: eight random bytes in hexadecimal.
func NewInstance() string {
	var b [8]byte
	// Documented never to fail: the program ends instead.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Instance is the id of this start.
func (p *Pipeline) Instance() string { return p.instance }

// Begun is closed when Run has begun: from then on a while in which the collector does not run is told. Whatever can
// stop it should not be started before.
func (p *Pipeline) Begun() <-chan struct{} { return p.begun }

// Running says whether Run is reading records.
func (p *Pipeline) Running() bool { return p.running.Load() }

// Run reads records until ctx ends, then empties the ring, the queues and the exporters. The error
// says what of that could not be done.
func (p *Pipeline) Run(ctx context.Context) error {
	first := beatNow()
	close(p.begun)
	exporting, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	for _, o := range p.outputs {
		go func() {
			o.err = o.run(exporting)
			close(o.done)
		}()
	}
	reading, ended := context.WithCancel(ctx)
	defer ended()
	finished := make(chan struct{})
	defer close(finished)
	go p.limitShutdown(reading, finished, abandon)
	ticking, stop := context.WithCancel(ctx)
	var ticker sync.WaitGroup
	ticker.Go(func() { p.tickUntil(ticking) })
	ticker.Go(func() { p.measureUntil(ticking) })
	ticker.Go(func() { p.singUntil(ticking) })
	if p.s.Digest != nil {
		ticker.Go(func() { p.s.Digest.Run(ticking) })
	}
	ticker.Go(func() { p.beatUntil(ticking, first) })

	p.running.Store(true)
	p.tick(time.Now())
	err := p.s.Source.Run(ctx, p.handle)
	ended()
	p.running.Store(false)
	stop()
	ticker.Wait()
	p.background.Wait()
	if p.s.Digest != nil {
		p.finishHashes(ctx)
	}
	p.finish(time.Now())

	for _, o := range p.outputs {
		o.queue.close()
	}
	return errors.Join(append([]error{err}, p.awaitOutputs(exporting)...)...)
}

// finishHashes reads the programs that still wait for it, in a part of the time that there is to end.
func (p *Pipeline) finishHashes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.s.ShutdownTimeout/4)
	defer cancel()
	p.s.Digest.Finish(ctx)
}

// limitShutdown sees to it that the pipeline ends in time once it no longer reads: exporters are told to
// give up, and nobody waits for room in their queues.
func (p *Pipeline) limitShutdown(reading context.Context, finished <-chan struct{}, abandon func()) {
	<-reading.Done()
	timer := time.NewTimer(p.s.ShutdownTimeout)
	defer timer.Stop()
	select {
	case <-timer.C:
		abandon()
		for _, o := range p.outputs {
			o.queue.hurry()
		}
	case <-finished:
	}
}

// awaitOutputs waits until every exporter is shut down. One that does not even give up is left behind.
func (p *Pipeline) awaitOutputs(exporting context.Context) []error {
	var errs []error
	for _, o := range p.outputs {
		select {
		case <-o.done:
			errs = append(errs, o.err)
			continue
		case <-exporting.Done():
		}
		select {
		case <-o.done:
			errs = append(errs, o.err)
		case <-time.After(abandonGrace):
			errs = append(errs, fmt.Errorf("exporter %s does not end", o.settings.Exporter.Name()))
		}
	}
	return errs
}

func (p *Pipeline) tickUntil(ctx context.Context) {
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.tick(now)
		case <-ctx.Done():
			return
		}
	}
}

// handle takes one record.
func (p *Pipeline) handle(r *bpf.Record) {
	for _, o := range p.outputs {
		o.queue.await()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !r.Counted {
		p.records++
	}
	p.begin(r)
	defer p.end()
	switch payload := r.Payload.(type) {
	case *bpf.CgroupMade:
		if s := p.s.Sandboxes.Made(payload.ID, payload.Path); s != nil {
			p.know(s, r.Time)
		} else if state := p.stateOf(r); state != nil {
			state.cgroups.add(payload.ID, payload.Path)
		}
		return
	case *bpf.CgroupGone:
		if state := p.stateOf(r); state != nil {
			state.cgroups.remove(payload.ID)
		}
		p.gone(payload.ID, r.Time)
		return
	}
	state := p.stateOf(r)
	if state == nil {
		p.strangers++
		return
	}
	p.attribute(state, r)
	if len(p.early) > 0 && born(r) {
		p.catchUp(r.Time)
	}
}

// attribute joins a record to its process and publishes the event that it makes, if any.
func (p *Pipeline) attribute(state *sandboxState, r *bpf.Record) {
	switch payload := r.Payload.(type) {
	case *bpf.FileUse:
		return // the counts follow
	case *bpf.NameAnswers:
		state.names.add(payload, r.Time)
		return
	case *bpf.DNSMessage:
		p.dns(state, r, payload)
		return
	case *bpf.Stream:
		p.stream(state, r, payload)
		return
	case *bpf.Datagram:
		p.datagram(state, r, payload)
		return
	case *bpf.Existing:
		if !p.tree.Known(r) {
			state.existing++
			state.processes++
		}
		p.tree.Existing(r, payload)
		return
	}
	if !p.tree.Known(r) && r.Task.PID != 0 {
		state.processes++
	}
	p.start(state, r.Time)
	var who *event.Process
	switch payload := r.Payload.(type) {
	case *bpf.Fork:
		child := p.tree.Fork(r)
		p.sessions.Forked(child)
		p.cloned(state, r, child, payload)
		return
	case *event.ProcessExec:
		who = p.tree.Exec(r, payload)
		p.hash(state, payload, who, r.Time)
	case *event.ProcessExit:
		who = p.tree.Exit(r)
	case *event.ProcessMove:
		who = p.moved(state, r, payload)
	case *event.SyscallNotable:
		who = p.called(r, payload)
	case event.Classified:
		who = p.tree.Seen(r)
		if p.s.Classify != nil {
			payload.Classify(p.s.Classify)
		}
	case event.PeerNamed:
		who = p.whoIs(r)
		if connect, ok := payload.(*event.NetworkConnect); ok && p.s.Connected != nil {
			p.s.Connected(r, connect)
		}
		payload.NamePeer(state.names.nameOf(payload.PeerAddr(), r.Time))
	default:
		who = p.whoIs(r)
	}
	if cgroup := state.cgroups.path(r.Cgroup); who != nil && who.Cgroup != cgroup {
		who = p.tree.Place(r, cgroup)
	}
	who = p.relate(state, r, who)
	payload, ok := r.Payload.(event.Payload)
	if !ok {
		p.losses.note(lossKey{stage: event.LossDecode, lost: fmt.Sprintf("%T", r.Payload), reason: "malformed"}, 1)
		return
	}
	p.publish(p.made.event(r, event.Event{
		Time: r.Time, Sandbox: state.sandbox, Process: who, Truncated: r.Truncated, Payload: payload,
	}))
	p.credentials(state, r, who)
	p.observe(state, r, who)
	p.examine(state, r.Time)
}

// publish gives an event its number, shows it to the detectors and hands it, and then what they found,
// to every exporter.
func (p *Pipeline) publish(e *event.Event) {
	if p.replaying {
		return
	}
	p.number(e)
	p.detect(e)
	p.heed(e)
	p.export(e)
	p.publishFindings()
}

// publishFindings hands on what the detectors found.
func (p *Pipeline) publishFindings() {
	for i, finding := range p.findings {
		p.number(finding)
		p.export(finding)
		p.sessions.Found(finding)
		p.findings[i] = nil
	}
	p.findings = p.findings[:0]
}

func (p *Pipeline) number(e *event.Event) {
	p.seq++
	e.Seq, e.Instance, e.Observed, e.Place = p.seq, p.instance, time.Now(), p.held.at
	if p.s.Hold != nil && e.Place.Ring == 0 {
		p.s.Hold.Journal.ProducedFree()
	}
	if p.s.Produced != nil {
		p.s.Produced(p.seq)
	}
}

func (p *Pipeline) export(e *event.Event) {
	p.published[e.Kind()]++
	p.count(e)
	p.held.gathered = append(p.held.gathered, e)
	if e.Place.Position == 0 {
		p.exportGathered()
	}
}

// exportGathered hands on the events that one record made, or one that none did.
func (p *Pipeline) exportGathered() {
	defer func() {
		clear(p.held.gathered)
		clear(p.held.refused)
		p.held.gathered = p.held.gathered[:0]
	}()
	for _, o := range p.outputs {
		p.held.refused = o.queue.push(p.held.gathered, o.settings.Accepts, p.held.refused[:0])
		for _, e := range p.held.refused {
			if e.Kind() != event.KindLoss {
				p.losses.note(lossKey{
					stage: event.LossQueue, lost: o.settings.Exporter.Name(), reason: "queue_full", sandbox: e.Sandbox,
				}, 1)
			}
		}
	}
}
