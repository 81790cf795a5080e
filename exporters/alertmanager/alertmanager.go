// SPDX-License-Identifier: Apache-2.0

// Package alertmanager tells Alertmanagers of findings, by version 2 of their API.
//
// A finding becomes an alert that is told again and again for as long as it is active, so that an
// Alertmanager that was away learns of it when it is back, and one whose collector is gone lets it expire.
// Each Alertmanager has a goroutine of its own; Export only notes what is to be told, and never waits. Fed from the
// journal (Destination) it waits until one of them knows of each finding, so that no crash takes one.
//
// It owns which alerts are active and who was told. It must not decide what is a finding, and nothing that
// comes out of a sandbox becomes the name of a label.
package alertmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/web"
)

// Settings is what the program passes, as opposed to what people configure.
type Settings struct {
	// Resource is the program's own resource attributes; host.name becomes a label.
	Resource []event.Attribute
	// Logger takes what goes wrong.
	Logger *slog.Logger
}

const (
	// lives is for how many intervals an alert lives without being told again.
	lives = 4
	// batchSize is the most alerts of one request.
	batchSize = 64
	// firstPause and lastPause bound the pauses after failures; the latter is the interval, if that is shorter.
	firstPause = time.Second
	lastPause  = 30 * time.Second
	// complaintInterval is how often the failures of one Alertmanager are logged.
	complaintInterval = 30 * time.Second
)

// Exporter implements collector.Exporter.
type Exporter struct {
	cfg       Config
	min       event.Severity
	labels    map[string]string
	log       *slog.Logger
	receivers []*receiver

	mu     sync.Mutex
	alerts map[string]*alert
	lost   uint64
	// durable says that the journal feeds it: what nobody knows yet is not lost with the process.
	durable bool
	// progress is closed, and made anew, whenever a receiver answered.
	progress chan struct{}
	// now is the clock, which tests replace.
	now func() time.Time

	stopping chan struct{}
	abandon  context.CancelFunc
	running  sync.WaitGroup
}

// alert is a finding as the Alertmanagers are told of it.
type alert struct {
	labels, annotations map[string]string
	severity            event.Severity
	canary              bool
	// started is when it was first seen, seen when last, told when an Alertmanager first knew.
	started, seen, told time.Time
	// ended is when it was over; zero while it is active.
	ended time.Time
	// version grows with each change that has to be told.
	version uint64
	// over says that it was resolved before anybody knew of it: its end is told soon after its beginning.
	over bool
	// recalled says that a start before this one may have told of it.
	recalled bool
	// evicted says that there was no room for it any more.
	evicted bool
}

// receiver is one Alertmanager, and what it knows.
type receiver struct {
	name   string
	client *web.Client
	wake   chan struct{}
	// known is which version of which alert it was told, and when. Guarded by the exporter's mu, as is what follows.
	known             map[*alert]knowledge
	delivered, failed uint64
	canary            time.Time
	complained        time.Time
	pause             time.Duration
	failing           bool
}

type knowledge struct {
	version uint64
	at      time.Time
	// refusal is why it takes none of this version; nil when it knows it.
	refusal error
}

// Open starts an exporter. Nobody is asked whether the Alertmanagers are there: they may come later.
func Open(cfg Config, s Settings) (*Exporter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("alertmanager exporter: %w", err)
	}
	return open(cfg, s)
}

func open(cfg Config, s Settings) (*Exporter, error) {
	severity, err := event.ParseFindingSeverity(cfg.MinSeverity)
	if err != nil {
		return nil, fmt.Errorf("alertmanager exporter: %w", err)
	}
	e := &Exporter{
		cfg: cfg, min: severity, labels: maps.Clone(cfg.Labels), log: s.Logger,
		alerts: map[string]*alert{}, now: time.Now, stopping: make(chan struct{}), progress: make(chan struct{}),
	}
	if e.labels == nil {
		e.labels = map[string]string{}
	}
	for _, a := range s.Resource {
		if a.Key == event.HostName {
			e.labels["host"] = bounded(a.Value.AsString())
		}
	}
	for _, u := range cfg.URLs {
		client, err := web.New(web.Settings{URL: apiURL(u), Auth: cfg.Auth, TLS: cfg.TLS, Timeout: cfg.Timeout, NoPages: true})
		if err != nil {
			return nil, fmt.Errorf("prepare to tell Alertmanager %s: %w", web.Name(u), err)
		}
		e.receivers = append(e.receivers, &receiver{
			name: web.Name(u), client: client, wake: make(chan struct{}, 1), known: map[*alert]knowledge{},
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.abandon = cancel
	for _, r := range e.receivers {
		e.running.Go(func() { e.serve(ctx, r) })
	}
	return e, nil
}

// Name implements collector.Exporter.
func (*Exporter) Name() string { return "alertmanager" }

// Accepts says whether an event is one that this exporter is for.
func (e *Exporter) Accepts(ev *event.Event) bool {
	f, ok := ev.Payload.(*event.Finding)
	return ok && (f.Canary() || f.Severity() >= e.min)
}

// Export notes the findings of the batch. It never fails: what becomes of them Notifiers says.
func (e *Exporter) Export(_ context.Context, batch []*event.Event) error {
	e.mu.Lock()
	for _, ev := range batch {
		if f, ok := ev.Payload.(*event.Finding); ok && e.Accepts(ev) {
			e.note(ev, f, e.now())
		}
	}
	e.mu.Unlock()
	e.wake()
	return nil
}

// wake has the receivers looked after.
func (e *Exporter) wake() {
	for _, r := range e.receivers {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// note makes or renews the alert of a finding that was seen at that time; nil when there is nothing to tell. The
// caller holds mu.
func (e *Exporter) note(ev *event.Event, f *event.Finding, at time.Time) *alert {
	key := f.ID
	a := e.alerts[key]
	if f.State == event.FindingResolved {
		switch {
		case a == nil || !a.ended.IsZero() && !a.recalled:
			return nil
		case a.told.IsZero(): // one that nobody knows yet is told first: it happened
			a.over = true
			return a
		}
		a.ended = e.now()
		a.version++
		return a
	}
	labels := e.labelsOf(ev, f)
	if a == nil || !a.ended.IsZero() || !maps.Equal(a.labels, labels) {
		if a != nil {
			e.forget(a)
		}
		a = &alert{labels: labels, severity: f.Severity(), canary: f.Canary(), started: at}
		e.makeRoom()
		e.alerts[key] = a
	}
	a.seen, a.annotations, a.over = at, e.annotationsOf(ev, f), false
	if f.State != event.FindingUpdate || a.version == 0 {
		a.version++ // an update alone is told with the next refresh
	}
	return a
}

// forget takes an alert out of what is known of the receivers. Whoever was told of it lets it expire.
func (e *Exporter) forget(a *alert) {
	for _, r := range e.receivers {
		delete(r.known, a)
	}
}

// makeRoom removes an alert if there is no room for another: one that is over before one that somebody
// knows, that before one that nobody knows yet, and of those the least severe and then the oldest.
func (e *Exporter) makeRoom() {
	if len(e.alerts) < e.cfg.MaxAlerts {
		return
	}
	rank := func(a *alert) int {
		switch {
		case !a.told.IsZero() && !a.ended.IsZero():
			return 0
		case !a.told.IsZero():
			return 1
		}
		return 2
	}
	victim := ""
	for key, a := range e.alerts {
		if v := e.alerts[victim]; v == nil || cmp.Or(
			cmp.Compare(rank(a), rank(v)), cmp.Compare(a.severity, v.severity), a.seen.Compare(v.seen)) < 0 {
			victim = key
		}
	}
	a := e.alerts[victim]
	a.evicted = true
	if a.told.IsZero() && !e.durable {
		e.lost++
	}
	e.forget(a)
	delete(e.alerts, victim)
}

// expire ends the alerts that are no longer active, and forgets those of whose end everybody was told, or
// had the time to be. The caller holds mu.
func (e *Exporter) expire(now time.Time) {
	for key, a := range e.alerts {
		if a.told.IsZero() && a.ended.IsZero() {
			continue // active until somebody knows, however long that takes
		}
		if a.over && a.ended.IsZero() && now.After(a.told.Add(e.cfg.RefreshInterval)) {
			a.ended = now
			a.version++
		}
		if until := later(a.seen, a.told).Add(e.cfg.ActiveFor); a.ended.IsZero() && now.After(until) {
			a.ended = now
			a.version++
		}
		if a.ended.IsZero() {
			continue
		}
		everybody := !slices.ContainsFunc(e.receivers, func(r *receiver) bool { return r.known[a].version != a.version })
		if everybody || now.Sub(a.ended) > lives*e.cfg.RefreshInterval {
			e.forget(a)
			delete(e.alerts, key)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// serve tells one Alertmanager until the exporter is shut down, and then once more what it does not know.
func (e *Exporter) serve(ctx context.Context, r *receiver) {
	defer r.client.Close()
	for {
		wait := e.tell(ctx, r)
		if wait == 0 {
			continue
		}
		timer := time.NewTimer(wait)
		wake := r.wake
		if r.failing {
			wake = nil // news does not shorten the pause
		}
		select {
		case <-timer.C:
		case <-wake:
		case <-e.stopping:
			timer.Stop()
			e.finish(ctx, r)
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// finish tells what was not told yet, until it is or ctx ends.
func (e *Exporter) finish(ctx context.Context, r *receiver) {
	for ctx.Err() == nil {
		batch, _ := e.due(r, false)
		if len(batch) == 0 {
			return
		}
		if wait := e.send(ctx, r, batch); wait > 0 {
			select {
			case <-time.After(min(wait, firstPause)):
			case <-ctx.Done():
			}
		}
	}
}

// tell sends one batch of what is due. It returns how long to wait before the next: 0 when more is due.
func (e *Exporter) tell(ctx context.Context, r *receiver) time.Duration {
	batch, next := e.due(r, true)
	if len(batch) == 0 {
		return next
	}
	return e.send(ctx, r, batch)
}

// dueAlert is an alert as it is sent.
type dueAlert struct {
	alert    *alert
	version  uint64
	document document
}

// due is the alerts that a receiver has to be told of, the most severe first, and otherwise when to look again.
func (e *Exporter) due(r *receiver, refresh bool) ([]dueAlert, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	e.expire(now)
	next := e.cfg.RefreshInterval
	var list []*alert
	for _, a := range e.alerts {
		known, ok := r.known[a]
		age := now.Sub(known.at)
		if ok && known.version == a.version && (!refresh || !a.ended.IsZero()) {
			continue
		}
		// An age below zero is a clock that was set back.
		if ok && known.version == a.version && age >= 0 && age < e.cfg.RefreshInterval {
			next = min(next, e.cfg.RefreshInterval-age)
			continue
		}
		if !a.ended.IsZero() && !ok && !a.told.IsZero() && !a.recalled {
			r.known[a] = knowledge{version: a.version, at: now} // it never knew of what is over by now
			continue
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *alert) int {
		return cmp.Or(cmp.Compare(b.severity, a.severity), a.started.Compare(b.started))
	})
	var batch []dueAlert
	for _, a := range list[:min(len(list), batchSize)] {
		batch = append(batch, dueAlert{a, a.version, e.document(a, now)})
	}
	return batch, next
}

// send makes one request, and notes what the receiver knows then. It returns how long to wait.
func (e *Exporter) send(ctx context.Context, r *receiver, batch []dueAlert) time.Duration {
	err := r.post(ctx, batch)
	failed, _ := errors.AsType[*web.Failure](err)
	if failed != nil && failed.Content() && len(batch) > 1 {
		// One of them spoils the others.
		for _, d := range batch {
			if wait := e.send(ctx, r, []dueAlert{d}); wait > 0 && r.failing {
				return wait
			}
		}
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.tellProgress()
	now := e.now()
	switch {
	case err == nil:
		r.learned(batch, now)
	case failed != nil && failed.Content():
		// It will not take this one, ever, nor will the others of its kind: it is lost, which is said and counted.
		r.failed++
		for _, d := range batch {
			r.known[d.alert] = knowledge{d.version, now, failed}
			if d.alert.told.IsZero() && !e.durable {
				e.lost++
				d.alert.told = now // nobody is waited for: its time runs
			}
		}
		if e.mayComplain(r) {
			e.log.Error("Alertmanager refuses an alert", "alertmanager", r.name, "error", err)
		}
	default:
		r.failed++
		if !r.failing {
			r.failing, r.pause = true, firstPause
		}
		wait := web.Jitter(r.pause)
		if failed != nil && failed.After > 0 {
			wait = failed.After
		}
		r.pause = min(2*r.pause, lastPause)
		if ctx.Err() == nil && e.mayComplain(r) {
			e.log.Error("Alertmanager cannot be told of findings; they are kept and told again",
				"alertmanager", r.name, "alerts", len(e.alerts), "error", err)
		}
		return max(wait, time.Millisecond)
	}
	r.failing = false
	return 0
}

func (r *receiver) learned(batch []dueAlert, now time.Time) {
	for _, d := range batch {
		before := r.known[d.alert]
		if before.version != d.version || before.refusal != nil {
			r.delivered++
			if d.alert.canary && d.alert.ended.IsZero() {
				r.canary = now
			}
		}
		r.known[d.alert] = knowledge{version: d.version, at: now}
		if d.alert.told.IsZero() {
			d.alert.told = now
		}
	}
}

// tellProgress wakes who waits for an answer. The caller holds mu.
func (e *Exporter) tellProgress() {
	close(e.progress)
	e.progress = make(chan struct{})
}

// mayComplain says whether a failure may be logged: not all are.
func (e *Exporter) mayComplain(r *receiver) bool {
	now := e.now()
	if now.Sub(r.complained) < complaintInterval && !now.Before(r.complained) {
		return false
	}
	r.complained = now
	return true
}

// Shutdown tells what was not told yet, as far as ctx allows. Active alerts stay: they expire by
// themselves, unless the collector is back before and sees their findings again.
func (e *Exporter) Shutdown(ctx context.Context) error {
	close(e.stopping)
	stop := context.AfterFunc(ctx, e.abandon)
	e.running.Wait()
	stop()
	e.abandon()
	e.mu.Lock()
	defer e.mu.Unlock()
	untold := 0
	for _, a := range e.alerts {
		if a.told.IsZero() {
			untold++
		}
	}
	if untold > 0 {
		e.lost += uint64(untold)
		return fmt.Errorf("%d findings were told to no Alertmanager", untold)
	}
	return nil
}

// Lost is how many findings it took and gave up since.
func (e *Exporter) Lost() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}

// Notifiers is the state of each Alertmanager.
func (e *Exporter) Notifiers() []event.NotifierStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]event.NotifierStats, 0, len(e.receivers))
	for i, r := range e.receivers {
		s := event.NotifierStats{Output: "alertmanager/" + r.name, Tells: true, Delivered: r.delivered, Failed: r.failed}
		if i == 0 {
			s.Lost = e.lost // of all together: each finding counts once
		}
		for _, a := range e.alerts {
			if r.known[a].version != a.version {
				s.Pending++
			}
		}
		if !r.canary.IsZero() {
			s.Canary = r.canary.Unix()
		}
		list = append(list, s)
	}
	return list
}
