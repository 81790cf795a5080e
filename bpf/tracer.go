// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/watchglass/watchglass/event"
)

// contextInterval is after how many records of a stream without a gap Run looks at its context.
const contextInterval = 1024

// Tracer is the loaded and attached probes. Its methods may be called from any goroutine.
type Tracer struct {
	cfg   Config
	log   *slog.Logger
	mount string
	// plan is the hook plan that is followed, planReason why that one.
	plan       Plan
	planReason string
	// returns is how a program hangs on the returns of many functions under the plan trampoline.
	returns returning
	probes  []loadedProbe
	shared  map[string]*ebpf.Map
	// types is what was read of the kernel's types, while probes are opened; nil then.
	types *btf.Cache
	ring  *recordRing
	dec   decoder
	// places is nil where no packets are seen.
	places *places
	// repeats is nil where all opens are told one by one.
	repeats *repeats
	// pins is nil where nothing outlives this process; pinsErr is why, where it should.
	pins    *pins
	pinsErr error
	// ringID is the identity of the ring being read; 0 when it ends with this process.
	ringID uint64
	// old is the ring of a layout before, until it is read.
	old *recordRing
	// takenOver is how this tracer goes on where another ended, nil where it does not.
	takenOver *event.Takeover
	// flows tells of the connections that go on.
	flows       flows
	relabelling relabelling
	// datagrams is nil where those of UDP sockets are not counted.
	datagrams *datagrams
	// transfers is nil where what is read and written is not counted.
	transfers *transfers
	// calls is nil where system calls are not counted.
	calls *calls

	// idle is for how long Run sleeps while there are no records: idleInterval, but in tests.
	idle       time.Duration
	running    atomic.Bool
	closed     atomic.Bool
	caughtUp   atomic.Bool
	undecoded  atomic.Uint64
	untold     atomic.Uint64
	bootstraps sync.Mutex
	// unlisted is true while there may be processes in sandboxes that have not been listed. Guarded by bootstraps.
	unlisted bool
	// reading is held by Run.
	reading sync.Mutex

	// mu guards what follows.
	mu sync.Mutex
	// endRun ends Run, nil before the first. One that begins later sees by itself that the tracer is closed.
	endRun context.CancelFunc
	// tracked is the watched sandboxes and their directories.
	tracked map[uint64]string
	refused uint64
	// retired is the counts of sandboxes that are no longer watched, by probe.
	retired []event.ProbeStats
}

// loadedProbe is one probe and what keeps it alive: a link that is garbage-collected detaches its
// program without a word.
type loadedProbe struct {
	probe
	// slot is the first of its slots in the accounts.
	slot       int
	collection *ebpf.Collection
	// hooks is what the programs' sections say to attach them to.
	hooks    map[string]hook
	links    []link.Link
	iterator *link.Iter
	// plan is the one that the probe follows: "" where it sees no system calls. fallback is why it is not the tracer's.
	plan     Plan
	fallback error
	// hung is what programs are loaded for, hangings their links by target, entries the programs that were loaded later.
	hung     []hanging
	hangings map[int][]link.Link
	entries  *ebpf.Collection
	// returns is the tracer's, returnSet the id of the kernel's events where they are by kretprobes.
	returns   returning
	returnSet string
	// refused is why some of the programs could not be loaded, nil where all could.
	refused error
	// attached is true when every program is; err is why one is not.
	attached bool
	err      error
	off      bool
}

// Open loads and attaches the probes. A probe that the kernel refuses is reported by Probes and leaves
// the others working, unless nothing works without it. Errors can be told apart by errors.Is with
// ErrNoPermission, ErrNoBTF and ErrNoCgroup2.
func Open(cfg Config) (*Tracer, error) {
	t, err := newTracer(cfg)
	if err != nil {
		return nil, err
	}
	if err := t.open(); err != nil {
		t.Close() //nolint:errcheck // the reason is the error of opening
		return nil, err
	}
	return t, nil
}

// newTracer makes a Tracer without any probe.
func newTracer(cfg Config) (*Tracer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("checking the tracer's configuration: %w", err)
	}
	if err := checkKernel(); err != nil {
		return nil, fmt.Errorf("looking at the kernel: %w", err)
	}
	mount := cfg.Mount
	if mount == "" {
		var err error
		if mount, err = findCgroup2(); err != nil {
			return nil, fmt.Errorf("looking for cgroup2: %w", err)
		}
	}
	clock, err := newClock()
	if err != nil {
		return nil, err
	}
	t := &Tracer{
		cfg: cfg, log: cfg.Logger, mount: mount, idle: idleInterval,
		shared:  map[string]*ebpf.Map{},
		tracked: map[uint64]string{},
		types:   btf.NewCache(),
		dec:     decoder{probes: probes(), clock: clock},
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if err := t.choosePlan(); err != nil {
		return nil, err
	}
	t.retired = make([]event.ProbeStats, len(t.dec.probes))
	for _, p := range t.dec.probes {
		if !cfg.FileIO {
			p.trampolines = p.trampolines.withoutMoves()
		}
		t.probes = append(t.probes, loadedProbe{probe: p, off: p.wanted != nil && !p.wanted(&cfg, t.plan)})
	}
	return t, placeSlots(t.probes)
}

// openProbes loads and attaches what is wanted, and leaves in each probe how that went. All are loaded before any is
// attached: where they take over from others' programs, that takes long and is to be short.
func (t *Tracer) openProbes() {
	// Reading the kernel's types is much of the work: once for all, and not kept.
	cache := t.types
	defer func() { t.types = nil }()
	if t.pins != nil {
		t.pins.cache = cache
		defer func() { t.pins.cache = nil }()
	}
	for _, i := range t.loadOrder() {
		p := &t.probes[i]
		if p.off {
			continue
		}
		if err := t.loadPlanned(p, i, cache); err != nil {
			p.fail(fmt.Errorf("loading probe %s: %w", p.name, explain(err)))
		}
	}
	t.beginDoubt()
	if err := t.enterRemembered(); err != nil {
		t.log.Warn("sandboxes are to be found again", "error", err)
	}
	for i := range t.probes {
		p := &t.probes[i]
		if p.off || p.err != nil {
			continue
		}
		if err := t.hangPlanned(p, i, cache); err != nil {
			p.fail(fmt.Errorf("loading probe %s: %w", p.name, explain(err)))
			continue
		}
		// What did load and attach stays: half of a probe's events are better than none.
		if err := errors.Join(p.refused, t.divideOpens(p), t.attach(p), t.openPlaces(p)); err != nil {
			p.err = fmt.Errorf("attaching probe %s: %w", p.name, explain(err))
			continue
		}
		p.attached = true
	}
}

func (t *Tracer) open() error {
	if err := t.dec.clock.watch(); err != nil {
		t.log.Warn("the time of events may be wrong for a second after the clock is set", "error", err)
	}
	if err := t.openPins(); err != nil {
		return err
	}
	t.openProbes()
	t.log.Info("following the hook plan", "plan", t.plan, "because", t.planReason)
	for i := range t.probes {
		p := &t.probes[i]
		if p.fallback != nil {
			t.log.Warn("a probe cannot follow the hook plan; every process of the node pays for its tracepoint",
				"probe", p.name, "plan", t.plan, "error", p.fallback)
		}
		switch {
		case p.err == nil:
		case p.required:
			return p.err
		default:
			t.log.Warn("a probe is degraded; some events will be missing", "probe", p.name, "error", p.err)
		}
	}
	var err error
	if t.ring, err = openRecords(t.shared["events"]); err != nil {
		return fmt.Errorf("opening the ring: %w", err)
	}
	t.openRepeats()
	if m := t.shared["datagram_flows"]; m != nil {
		t.datagrams = newDatagrams(m, &t.dec, t.cfg.FlowInterval)
	}
	if err := t.openTransfers(); err != nil {
		return err
	}
	if err := t.openCalls(); err != nil {
		return err
	}
	if err := t.takeOver(); err != nil {
		return err
	}
	t.sweepReturns()
	if err := t.distrustLabels(); err != nil {
		return fmt.Errorf("having all processes looked up: %w", err)
	}
	// Sandbox 0 takes the account of what belongs to none.
	if err := t.openCounts(0); err != nil {
		return err
	}
	// No process is in sandbox 0; but the iterator finds the node's own namespaces by the way.
	return t.Bootstrap(0)
}

// openRepeats has opens told by counts where the configuration says which files are watched.
func (t *Tracer) openRepeats() {
	for i := range t.probes {
		c := t.probes[i].collection
		if t.cfg.Watched == nil || c == nil {
			continue
		}
		if kernel, ok := newCountedOpens(c); ok {
			t.repeats = newRepeats(kernel, t.cfg.Watched, t.dec.clock)
			if err := setHashKey(c.Variables); err != nil {
				t.log.Warn("failed opens are told one by one", "error", err)
			}
		}
	}
	if t.repeats == nil || t.pins == nil {
		return
	}
	untold, err := t.repeats.inherit()
	t.untold.Store(untold)
	if err != nil {
		t.log.Warn("some repeated opens are counted for nobody", "error", err)
	}
}

// openTransfers has what is read and written of files told, where the configuration wants it.
func (t *Tracer) openTransfers() (err error) {
	m := t.shared["transfers"]
	if !t.cfg.FileIO || m == nil {
		return nil
	}
	movings, err := newMovings(t.shared["movings"])
	if err != nil {
		return err
	}
	t.transfers = newTransfers([...]*ebpf.Map{m, t.shared["other_transfers"]}, movings, t.cfg.Watched)
	if t.pins != nil {
		// What was counted for an earlier collector: a process may end before the first look, and its end tells what is known.
		t.transfers.read(time.Now())
	}
	if t.cfg.Watched != nil {
		t.transfers.plain, err = newPlainFiles(t.shared["plain_files"], t.cfg.Watched)
	}
	return err
}

// openCalls has system calls told, where they are counted.
func (t *Tracer) openCalls() error {
	p := &t.probes[t.handsOn()]
	if p.collection == nil || !t.cfg.countsCalls(t.plan) {
		return nil
	}
	calls, err := newCalls(p.collection)
	if err != nil {
		return err
	}
	t.calls = calls
	if t.pins == nil {
		return nil
	}
	if err := t.calls.inherit(); err != nil {
		return fmt.Errorf("going on to count system calls: %w", err)
	}
	return nil
}

// load loads one object into the kernel, with the maps that others share.
func (t *Tracer) load(p *loadedProbe, index int, cache *btf.Cache) error {
	spec, err := t.readObject(p, index, cache)
	if err != nil {
		return err
	}
	options := ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{}, Cache: cache}
	for name, m := range t.shared {
		if spec.Maps[name] != nil {
			options.MapReplacements[name] = m
		}
	}
	if t.pins != nil {
		opened, err := t.pins.replace(p.name, spec, options.MapReplacements)
		defer closeMaps(opened)
		if err != nil {
			return err
		}
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, options)
	if err != nil && !p.required {
		collection, p.refused, err = p.loadRest(spec, options, err)
	}
	if err != nil {
		return fmt.Errorf("loading the object: %w", blame(err, spec, cache))
	}
	p.collection, p.hooks = collection, map[string]hook{}
	p.noteHooks(spec)
	if t.pins != nil {
		if err := t.pins.keep(p.name, spec, collection.Maps); err != nil {
			return err
		}
	}
	for _, name := range sharedMaps() {
		m := collection.Maps[name]
		if m == nil || t.shared[name] != nil {
			continue
		}
		// A descriptor of its own: the collection's is closed with the probe.
		clone, err := m.Clone()
		if err != nil {
			return fmt.Errorf("sharing map %s: %w", name, err)
		}
		t.shared[name] = clone
	}
	return nil
}

// readObject reads one object, as the configuration and the hook plan want it.
func (t *Tracer) readObject(p *loadedProbe, index int, cache *btf.Cache) (*ebpf.CollectionSpec, error) {
	spec, err := p.load()
	if err != nil {
		return nil, fmt.Errorf("reading the object: %w", err)
	}
	kernel, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("reading the kernel's types: %w", err)
	}
	castWhereKnown(spec, kernel)
	if err := t.prepare(spec, p, index); err != nil {
		return nil, err
	}
	return spec, p.follow(spec)
}

// prepare sets what the configuration and the probe's place in the list decide.
func (t *Tracer) prepare(spec *ebpf.CollectionSpec, p *loadedProbe, index int) error {
	constants := map[string]any{
		"probe_index": uint16(index), "event_wake_bytes": t.cfg.wakeBytes(),
		"event_slot": uint16(p.slot), "event_kinds": uint16(len(p.kinds)),
		"event_limits": t.cfg.ringLimits(), "event_budgets": t.cfg.windowBudgets(),
	}
	if err := setConstants(spec, constants); err != nil {
		return err
	}
	sizes := map[string]int{
		"events":       t.cfg.RingBytes,
		"sandboxes":    t.cfg.MaxSandboxes,
		"event_counts": t.cfg.MaxSandboxes + 1,
	}
	// By the tracer's plan, which the pins know, and not the probe's: one that cannot follow it has the same maps then.
	if t.plan != PlanTrampoline {
		sizes["resolved_changes"] = 1 // nothing is ever in it
	}
	for name, size := range sizes {
		if m := spec.Maps[name]; m != nil {
			m.MaxEntries = uint32(size)
		}
	}
	loadDirectly(spec, "unlabelled")
	if err := t.prepareHandler(spec, p); err != nil {
		return err
	}
	if index == t.handsOn() {
		return t.prepareRoutes(spec)
	}
	if p.prepare == nil {
		return nil
	}
	return p.prepare(spec, &t.cfg, t.types)
}

// setConstants sets constants of an object by their names.
func setConstants(spec *ebpf.CollectionSpec, constants map[string]any) error {
	for name, value := range constants {
		variable := spec.Variables[name]
		if variable == nil {
			return fmt.Errorf("there is no constant %s", name)
		}
		if err := variable.Set(value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

// setSwitch is setConstants of something that an object is to do, where it can: not every object has the constant.
func setSwitch(spec *ebpf.CollectionSpec, name string, on bool) error {
	if !on || spec.Variables[name] == nil {
		return nil
	}
	return setConstants(spec, map[string]any{name: uint32(1)})
}

// attach attaches every program it can and returns why some could not be.
func (t *Tracer) attach(p *loadedProbe) error {
	var errs []error
	for name, program := range p.collection.Programs {
		if h := p.hooks[name]; h.hangs() || h.kind == ebpf.RawTracepoint || h.kind == ebpf.CGroupSKB {
			continue // hangPlanned has attached it, user space runs it, or it hangs where the sandboxes are
		}
		if err := t.attachProgram(p, name, program); err != nil {
			errs = append(errs, fmt.Errorf("program %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// attachProgram attaches a program where its section says.
func (t *Tracer) attachProgram(p *loadedProbe, name string, program *ebpf.Program) error {
	if handed, err := t.handOn(name, program); handed || err != nil {
		return err
	}
	h := p.hooks[name]
	if h.attach == ebpf.AttachTraceIter {
		// Of sockets: those that have something in the map. Others are of tasks, and need none.
		iterator, err := link.AttachIter(link.IterOptions{Program: program, Map: p.collection.Maps["connections"]})
		p.iterator = iterator
		return err
	}
	l, err := t.pins.attachKept(p.name, placed{name: name, hook: h, program: program}, func(program *ebpf.Program) (link.Link, error) {
		return t.attachTo(h, program)
	})
	if err != nil {
		return err
	}
	p.links = append(p.links, l)
	return nil
}

// noteHooks notes which programs are for which hooks.
func (p *loadedProbe) noteHooks(spec *ebpf.CollectionSpec) {
	for name, program := range spec.Programs {
		p.hooks[name] = hook{kind: program.Type, attach: program.AttachType, to: program.AttachTo}
	}
}

// placed is a program and the hook that it is for.
type placed struct {
	name    string
	hook    hook
	program *ebpf.Program
}

// attachTo attaches a program to a hook. None of the ways needs tracefs.
func (t *Tracer) attachTo(h hook, program *ebpf.Program) (link.Link, error) {
	switch h.kind {
	case ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: program})
	case ebpf.CGroupSockAddr, ebpf.CGroupSock:
		return link.AttachCgroup(link.CgroupOptions{Path: t.mount, Attach: h.attach, Program: program})
	default:
		return nil, fmt.Errorf("no way to attach a program of type %s", h.kind)
	}
}

// Run delivers records until ctx ends, then what the ring still holds, and returns nil. Only one Run
// may be under way. handle is called from one goroutine, in the order of the ring.
func (t *Tracer) Run(ctx context.Context, handle func(*Record)) error {
	if !t.running.CompareAndSwap(false, true) {
		return errors.New("running the tracer: it runs already")
	}
	defer t.running.Store(false)
	t.reading.Lock()
	defer t.reading.Unlock()
	if t.closed.Load() {
		return nil // the ring is gone
	}
	if err := t.readOld(handle); err != nil {
		t.log.Error("the rest of what the tracer before has seen is lost", "error", err)
	}
	if t.pins != nil && t.pins.how != event.PinningStarted {
		if err := t.preview(handle); err != nil {
			return fmt.Errorf("looking through the ring: %w", err)
		}
	}
	backlog := t.ring.at + t.ring.unread()
	ctx, end := context.WithCancel(ctx)
	defer end()
	t.mu.Lock()
	t.endRun = end
	t.mu.Unlock()
	defer t.ring.interruptedBy(ctx)()
	ended := func() bool { return ctx.Err() != nil || t.closed.Load() }
	pauses := newPauses(t.idle, t.cfg.FlowInterval, t.askForWake)
	for !ended() {
		t.dec.clock.refresh()
		read, err := t.read(contextInterval, handle)
		if err != nil {
			return err
		}
		t.letGo()
		now := time.Now()
		t.places.tend(now)
		if t.ring.at >= backlog {
			t.caughtUp.Store(true)
		}
		t.sweep(now, handle)
		if read == contextInterval {
			continue
		}
		pause, err := pauses.next(read)
		if err != nil {
			return err
		}
		if err := t.ring.wait(pause, ended); err != nil {
			return err
		}
	}
	if t.closed.Load() {
		return nil
	}
	if err := t.leaveFlows(); err != nil {
		t.log.Error("what went over connections that are not closed is not told", "error", err)
	}
	err := t.drain(handle)
	t.flush(handle)
	return err
}

// askForWake has the kernel side wake the reader for the next record.
func (t *Tracer) askForWake() error {
	if err := t.shared["event_sleepers"].Put(uint32(0), uint64(1)); err != nil {
		return fmt.Errorf("asking the kernel side to be woken: %w", err)
	}
	return nil
}

// read delivers up to limit records, those that are there, and returns how many.
func (t *Tracer) read(limit int, handle func(*Record)) (int, error) {
	for n := range limit {
		data, err := t.ring.next()
		if err != nil {
			return n, fmt.Errorf("reading the ring: %w", err)
		}
		if data == nil {
			return n, nil
		}
		t.deliver(data, handle)
		if t.cfg.Hold == nil {
			t.ring.release(t.ring.at)
		}
	}
	return limit, nil
}

// letGo gives back the room of the records that need not be held any longer.
func (t *Tracer) letGo() {
	if t.cfg.Hold != nil {
		t.ring.release(t.cfg.Hold(t.ringID, t.ring.at, t.ring.at+t.ring.unread()))
	}
}

// drain delivers everything that was in the ring when it began. Not until the ring is empty: a sandbox
// that goes on could keep that from ever being.
func (t *Tracer) drain(handle func(*Record)) error {
	for end := t.ring.at + t.ring.unread(); t.ring.at < end; {
		n, err := t.read(1, handle)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
	return nil
}

func (t *Tracer) deliver(data []byte, handle func(*Record)) {
	record, err := t.dec.decode(data)
	if err != nil {
		// The first one is worth a line; all are counted.
		if t.undecoded.Add(1) == 1 {
			t.log.Error("a record of the kernel side cannot be decoded", "error", err, "bytes", len(data))
		}
		return
	}
	record.Ring, record.Position = t.ringID, t.ring.at
	if existing, ok := record.Payload.(*Existing); ok {
		existing.Args, record.Truncated = readArguments(&record.Task)
	}
	t.account(record, handle)
	handle(record)
}

// Bootstrap reports the processes that are alive in a tracked sandbox as *Existing records, delivered
// by Run. It returns when all of them are in the ring. A process that is born meanwhile may be told twice.
func (t *Tracer) Bootstrap(cgroupID uint64) error {
	t.bootstraps.Lock()
	defer t.bootstraps.Unlock()
	return t.listExisting(cgroupID)
}

// listExisting has the kernel side label the processes of every sandbox, without which it takes them to be in none, and
// report those of one. The caller holds bootstraps.
func (t *Tracer) listExisting(cgroupID uint64) error {
	if t.closed.Load() {
		return ErrClosed
	}
	for i := range t.probes {
		p := &t.probes[i]
		if p.iterator == nil || p.collection.Variables["existing_sandbox"] == nil {
			continue
		}
		if err := p.collection.Variables["existing_sandbox"].Set(cgroupID); err != nil {
			return fmt.Errorf("choosing the sandbox to list: %w", err)
		}
		if err := runIterator(p.iterator); err != nil {
			return fmt.Errorf("listing the processes of cgroup %d: %w", cgroupID, err)
		}
		if !t.unlisted {
			continue
		}
		if err := t.trustLabels(); err != nil {
			return err
		}
	}
	return nil
}

func runIterator(iterator *link.Iter) error {
	run, err := iterator.Open()
	if err != nil {
		return fmt.Errorf("starting the iterator: %w", err)
	}
	if _, err := io.Copy(io.Discard, run); err != nil {
		return errors.Join(fmt.Errorf("running the iterator: %w", err), run.Close())
	}
	return run.Close()
}

// Probes is the state of every probe that is wanted, with its counts over all sandboxes so far.
func (t *Tracer) Probes() []event.ProbeStats {
	counts, err := t.Counts()
	if err != nil && !t.closed.Load() {
		t.log.Error("the kernel's counts cannot be read", "error", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	stats := make([]event.ProbeStats, 0, len(t.probes))
	for i := range t.probes {
		p := &t.probes[i]
		if p.off {
			continue
		}
		s := t.retired[i]
		p.state(&s)
		t.places.tell(p, &s)
		for _, c := range counts {
			if c.Probe == p.name {
				s.Seen += c.Seen
				s.Aggregated += c.Aggregated
				s.Dropped += c.Dropped + c.Throttled
			}
		}
		stats = append(stats, s)
	}
	return stats
}

// RingStats is the size of the ring and how much of it waits to be read, in bytes.
func (t *Tracer) RingStats() (size, used uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return 0, 0
	}
	return t.ring.size(), t.ring.used()
}

// Undecoded is how many records could not be decoded: a bug, or a damaged ring.
func (t *Tracer) Undecoded() uint64 { return t.undecoded.Load() }

// Untold is how many opens were counted for the tracer before, as repeats of others, and told by nobody.
func (t *Tracer) Untold() uint64 { return t.untold.Load() }

// Close detaches and unloads everything. What is still in the ring is lost: end Run first, which Close ends too.
// Closing again does nothing.
func (t *Tracer) Close() error {
	if !t.closed.CompareAndSwap(false, true) {
		return nil
	}
	t.mu.Lock()
	if t.endRun != nil {
		t.endRun()
	}
	t.mu.Unlock()
	t.reading.Lock()
	defer t.reading.Unlock()
	t.bootstraps.Lock()
	defer t.bootstraps.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dec.clock.close()
	errs := []error{t.places.close()}
	for i := range t.probes {
		errs = append(errs, t.probes[i].close())
	}
	for _, r := range []*recordRing{t.ring, t.old} {
		if r != nil {
			errs = append(errs, r.close())
		}
	}
	if t.transfers != nil {
		errs = append(errs, t.transfers.movings.close())
	}
	if t.pins != nil {
		errs = append(errs, t.closePins())
	} else {
		errs = append(errs, t.removeReturns())
	}
	for _, m := range t.shared {
		errs = append(errs, m.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the tracer: %w", err)
	}
	return nil
}

func (p *loadedProbe) close() error {
	var errs []error
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	for _, links := range p.hangings {
		errs = append(errs, closeAll(links))
	}
	if p.iterator != nil {
		errs = append(errs, p.iterator.Close())
	}
	if p.entries != nil {
		p.entries.Close()
	}
	if p.collection != nil {
		p.collection.Close()
	}
	p.links, p.hangings, p.iterator, p.collection, p.entries = nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// fail marks a probe as not working and gives back what it holds.
func (p *loadedProbe) fail(err error) {
	p.err = errors.Join(err, p.close())
}
