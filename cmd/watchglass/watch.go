// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/agent/hook"
	receiver "github.com/watchglass/watchglass/collector/agent/otlp"
	"github.com/watchglass/watchglass/collector/agent/peer"
	"github.com/watchglass/watchglass/collector/control"
	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/otlp"
	"github.com/watchglass/watchglass/exporters/prometheus"
	"github.com/watchglass/watchglass/policy"
)

// watchSettings is what differs between `watchglass run` and `watchglass collect`.
type watchSettings struct {
	config *config
	mount  sandbox.Mount
	log    *slog.Logger
	// selectors says whether those of the configuration choose sandboxes.
	selectors bool
	// environment says whether the OTEL_EXPORTER_OTLP_ variables are meant for this program.
	environment bool
	// instance is the id of this start: see collector.NewInstance.
	instance string
	// outputs is the exporters besides those for metrics and OTLP.
	outputs []collector.ExporterSettings
	// files is the files that are fed from the journal.
	files []collector.DestinationSettings
	// canaryInterval is how often a canary is made; 0 never.
	canaryInterval time.Duration
	// metrics is where to serve metrics; nil for nowhere.
	metrics *prometheus.Config
	// journal is where events are kept; nil for nowhere.
	journal *journalConfig
	// pins is where programs and maps outlive the process; nil for nowhere.
	pins *bpf.Pins
	// baselines is the file that keeps what is usual; "" for none.
	baselines string
}

// watch is everything at work: the tracer, the registry, the pipeline and what serves metrics.
type watch struct {
	log       *slog.Logger
	policy    *policy.Live
	detectors *toggles
	habits    habits
	tracer    *bpf.Tracer
	registry  *sandbox.Registry
	pipeline  *collector.Pipeline
	server    *prometheus.Server
	push      *otlp.Metrics
	hooks     *hook.Server
	control   *control.Server
	store     store
	// journalDir is the journal's folder, "" for none.
	journalDir string
	peers      *peer.Finder
	receiver   *receiver.Receiver
	relay      *otlp.Relay

	// measure is told of every batch that is exported.
	measure func(exporter string, batch []*event.Event)
	// failed gets the error of a part that ended by itself.
	failed chan error
	// reading ends the pipeline, serving what serves metrics.
	reading, serving context.CancelFunc
	pipelineDone     chan error
	// stopHearing ends the serving of agents and waits for it.
	stopHearing func()
	servers     sync.WaitGroup
	// scanned is true once the sandboxes that existed at the start are watched.
	scanned atomic.Bool
	// stats is the pipeline's account at the end.
	stats event.Stats
}

// openWatch makes the parts and connects them. Nothing is watched yet.
func openWatch(s watchSettings) (*watch, error) {
	w := &watch{log: s.log, failed: make(chan error, 4), store: store{log: s.log}}
	err := w.open(s)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *watch) open(s watchSettings) error {
	compiled, err := policy.New(&s.config.Policy)
	if err != nil {
		return err
	}
	w.policy = policy.NewLive(compiled)
	if w.detectors, err = newToggles(&s.config.Detectors, w.policy, s.log); err != nil {
		return err
	}
	w.habits = habits{log: s.log, usual: w.detectors.usual, path: s.baselines}
	w.habits.open()
	metrics := exporters.NewMetrics(w.account)
	metrics.Version(version())
	w.measure = metrics.Exported
	metrics.Declare(append(w.detectors.rules(), event.CanaryRule())...)
	if s.journal != nil {
		w.journalDir = s.journal.Dir
	}
	if err := w.store.open(s.journal, s.instance); err != nil {
		return err
	}
	destinations, err := w.openOTLP(&s, metrics)
	if err != nil {
		return err
	}
	tellers, err := w.openNotifiers(&s)
	if err != nil {
		return err
	}
	fromJournal := append(tellers.fromJournal, s.files...)
	for i := range fromJournal {
		fromJournal[i].Delivered = metrics.Delivered
	}
	traces, spans, err := w.openTraces(&s)
	if err != nil {
		return err
	}
	destinations = append(append(destinations, fromJournal...), spans...)
	outputs, err := w.store.exporters(destinations, programResource(s.instance))
	if err != nil {
		return err
	}
	outputs = append(append(outputs, traces...), tellers.fromMemory...)
	if s.metrics != nil { // before anything is loaded: an address in use is the most likely mistake
		w.server, err = prometheus.Open(*s.metrics, prometheus.Settings{
			Metrics: metrics, Logger: s.log, Healthy: w.healthy, Ready: w.ready,
			Sandboxes: exporters.NewSandboxMetrics(func() []event.SandboxStats { return w.pipeline.SandboxStats() }, s.metrics.MaxSandboxes),
		})
		if err != nil {
			return err
		}
	}
	if w.server != nil || w.push != nil {
		outputs = append(outputs, collector.ExporterSettings{Exporter: metrics})
	}
	return w.openPipeline(&s, append(outputs, s.outputs...))
}

// tellers is the outputs that tell people of findings: fed from the journal, or where there is none from memory.
type tellers struct {
	fromJournal []collector.DestinationSettings
	fromMemory  []collector.ExporterSettings
}

func (w *watch) openNotifiers(s *watchSettings) (t tellers, err error) {
	settings := &notifierSettings{
		resource: programResource(s.instance), log: s.log, ruleTitle: w.detectors.title, canary: s.canaryInterval,
	}
	if w.store.journal == nil {
		t.fromMemory, err = s.config.Exporters.notifiers(settings)
		return t, err
	}
	t.fromJournal, err = s.config.Exporters.findings(s.journal.Dir, settings)
	return t, err
}

func (w *watch) openPipeline(s *watchSettings, outputs []collector.ExporterSettings) error {
	if err := w.openPeers(); err != nil {
		return err
	}
	kernel := s.config.Kernel.tracer()
	kernel.Logger, kernel.Mount, kernel.Watched = s.log, s.mount.Dir, w.isWatched
	hold := w.holdRecords(&kernel, s.pins)
	var err error
	if w.tracer, err = bpf.Open(kernel); err != nil {
		return err
	}
	if how, _ := w.tracer.Pinning(); how == event.PinningOff {
		hold = nil
	} else {
		w.store.journal.Continues(w.tracer.ResumedRing())
	}
	boot, err := sandbox.BootID()
	if err != nil {
		return err
	}
	registry := sandbox.Config{Mount: s.mount, BootID: boot, Max: s.config.Sandboxes.Max, Kernel: w.tracer, Logger: s.log}
	if s.selectors {
		if registry.Selectors, err = sandbox.ParseSelectors(s.config.Sandboxes.Cgroups); err != nil {
			return err
		}
	}
	if w.registry, err = sandbox.New(registry); err != nil {
		return err
	}
	usage, err := newUsage(s)
	if err != nil {
		return err
	}
	examine, err := newExaminer(s.mount, func() bool { return !w.policy.Observing() })
	if err != nil {
		return err
	}
	digester, err := s.config.Hashes.digester()
	if err != nil {
		return err
	}
	w.pipeline, err = collector.New(collector.Settings{
		Digest: digester,
		Source: w.tracer, Sandboxes: w.registry, Detectors: w.detectors.list(), Exporters: outputs,
		Examine: examine, Exported: w.measure, Usage: usage, CanaryInterval: s.canaryInterval, Classify: w.policy.Class,
		Logger: s.log, BootID: boot, Instance: s.instance, Hold: hold,
		Produced: w.store.produced(), Losses: w.store.losses(), Connected: w.peers.Connected, ShutdownTimeout: exportTime,
	})
	return err
}

// newUsage is what measures what the sandboxes use.
func newUsage(s *watchSettings) (collector.Usage, error) {
	interval := s.config.Sandboxes.UsageInterval
	if interval == 0 {
		return collector.Usage{}, nil
	}
	controllers, err := sandbox.FindControllers()
	if err != nil {
		return collector.Usage{}, err
	}
	return collector.Usage{Read: sandbox.NewMeter(s.mount, controllers).Read, Interval: interval}, nil
}

// account is what the parts say of themselves.
func (w *watch) account() event.Stats {
	stats := w.pipeline.Stats()
	stats.Receiver, stats.Hooks = w.receiverStats(), w.hookStats()
	stats.FindingsSuppressed = w.detectors.oversight.Suppressed()
	w.store.addStats(&stats)
	how, _ := w.tracer.Pinning()
	stats.Pinning = how
	return stats
}

// healthy says why no events are read, nil when they are.
func (w *watch) healthy() error {
	if w.pipeline == nil || !w.pipeline.Running() {
		return errors.New("the pipeline is not running")
	}
	return nil
}

// ready says why sandboxes are not watched yet, nil when they are.
func (w *watch) ready() error {
	if err := w.healthy(); err != nil {
		return err
	}
	if !w.scanned.Load() {
		return errors.New("the sandboxes that exist are being looked for")
	}
	return nil
}

// start begins to read records, and looks for the sandboxes that exist.
func (w *watch) start() error {
	reading, stopReading := context.WithCancel(context.Background())
	serving, stopServing := context.WithCancel(context.Background())
	w.reading, w.serving = stopReading, stopServing
	w.pipelineDone = make(chan error, 1)
	w.store.start(w.failed)
	w.resume()
	go func() {
		err := w.pipeline.Run(reading)
		if reading.Err() == nil {
			w.failed <- fmt.Errorf("the pipeline ended: %w", err)
		}
		w.pipelineDone <- err
	}()
	<-w.pipeline.Begun()
	if w.server != nil {
		w.log.Info("serving metrics", "address", w.server.Address())
		w.serve(serving, w.server.Run)
	}
	if w.push != nil {
		w.serve(serving, w.push.Run)
	}
	w.serve(serving, w.habits.run)
	if w.control != nil {
		w.serve(serving, w.control.Run)
	}
	if w.relay != nil {
		w.serve(serving, w.relay.Run)
	}
	w.hear()
	found, err := w.registry.Scan()
	w.pipeline.Know(found...)
	if err != nil {
		return err
	}
	w.scanned.Store(true)
	w.servers.Go(func() { w.sweep(serving.Done()) })
	return nil
}

func (w *watch) serve(ctx context.Context, run func(context.Context) error) {
	w.servers.Go(func() {
		if err := run(ctx); err != nil {
			w.failed <- err
		}
	})
}

// choose puts other selectors in force.
func (w *watch) choose(s sandbox.Selectors) error {
	added, removed, err := w.registry.Select(s)
	w.pipeline.Know(added...)
	for _, sandbox := range added {
		w.log.Info("watching a sandbox", "sandbox", sandbox.ID, "cgroup", sandbox.Cgroup)
	}
	for _, sandbox := range removed {
		w.log.Info("no longer watching a sandbox", "sandbox", sandbox.ID, "cgroup", sandbox.Cgroup)
	}
	return err
}

// stop ends the watching: what the kernel has still to tell is read, and exporters deliver what they hold. ctx bounds how long
// that may take. What is left is to close.
func (w *watch) stop(ctx context.Context) error {
	var errs []error
	if w.stopHearing != nil {
		w.stopHearing() // what was said is published by the pipeline still
	}
	if w.reading != nil {
		w.reading()
		select {
		case err := <-w.pipelineDone:
			errs = append(errs, err)
		case <-ctx.Done():
			errs = append(errs, errors.New("stopped before everything that was seen was delivered"))
		}
		w.store.drain(ctx)
		// After the last event, so that the last push of the metrics counts it.
		w.serving()
		w.servers.Wait()
		w.stats = w.account() // while the kernel still has its counts
		errs = append(errs, w.habits.save())
	}
	return errors.Join(errs...)
}

// close gives back what the parts hold, and has everything unloaded. Under the plan trampoline that takes the kernel seconds.
func (w *watch) close() error {
	var errs []error
	if w.server != nil {
		errs = append(errs, w.server.Close())
	}
	if w.hooks != nil {
		errs = append(errs, w.hooks.Close())
	}
	if w.control != nil {
		errs = append(errs, w.control.Close())
	}
	errs = append(errs, w.store.close())
	if w.receiver != nil {
		errs = append(errs, w.receiver.Close())
	}
	if w.tracer != nil {
		errs = append(errs, w.tracer.Close())
	}
	return errors.Join(errs...)
}

// programResource is what is known of this program and this machine: the resource of all that is sent.
func programResource(instance string) []event.Attribute {
	attributes := []event.Attribute{
		{Key: event.ServiceName, Value: event.String("watchglass")},
		{Key: event.ServiceVersion, Value: event.String(version())},
		{Key: event.ServiceInstanceID, Value: event.String(instance)},
		{Key: event.OSType, Value: event.String("linux")},
	}
	if name, err := os.Hostname(); err == nil {
		attributes = append(attributes, event.Attribute{Key: event.HostName, Value: event.String(name)})
	}
	if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(id) > 0 {
		attributes = append(attributes, event.Attribute{Key: event.HostID, Value: event.String(strings.TrimSpace(string(id)))})
	}
	return attributes
}

// isWatched says whether the policy watches the file at a path: then each open of it is told.
func (w *watch) isWatched(path string) bool {
	class := w.policy.Class(path)
	return class == event.FileClassSecret || class == event.FileClassConfig
}
