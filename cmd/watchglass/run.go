// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/prometheus"
	"github.com/watchglass/watchglass/exporters/text"
)

const runName = "run"

// liveStderr is what --live means without a value.
const liveStderr = "stderr"

// How long the parts of a session's end may take.
const (
	// settleTime is for processes that are ending already when the command does.
	settleTime = 500 * time.Millisecond
	// killTime is for processes that were killed to be gone.
	killTime = 10 * time.Second
	// exportTime is for what exporters have still to deliver, drainTime for that and what the kernel has still to tell.
	exportTime = 20 * time.Second
	drainTime  = 30 * time.Second
)

// runOptions is the flags of `watchglass run`.
type runOptions struct {
	config, name, json, timeline, live, metrics, summary, journal, baselines string
	keep, quiet, otlp                                                        bool
	canaries                                                                 []string
}

func newRun() *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   runName + " [flags] -- COMMAND [ARGUMENT…]",
		Short: "Run a command and watch it and everything it starts",
		Long: `Run a command in a cgroup of its own and watch it and everything it starts.

The command gets the terminal, the files, the environment and the signals as if it
were run without Watchglass, and its exit code becomes that of Watchglass: 128+n
when signal n ended it, 127 when it is not found, 126 when it cannot be executed.
125 means that Watchglass itself failed; the command was then not run.

What outlives the command is reported and then ended, or kept with --keep.`,
		Example: `  watchglass run --live -- codex exec "fix the failing test"
  watchglass run --json events.jsonl --timeline timeline.txt -- make test
  watchglass run --live=/dev/pts/3 -- claude`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(args) },
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command is the command's
	flags.StringVar(&o.config, "config", "", "read policy, detectors and exporters from this `file`")
	flags.StringVar(&o.name, "name", "", "call the sandbox this `name` (default: the command's)")
	flags.StringVar(&o.json, "json", "", "write every event as it happens to this `file`, as JSON lines")
	flags.StringVar(&o.timeline, "timeline", "", "write the timeline to this `file`, as text")
	flags.StringVar(&o.live, "live", "", "show the timeline as it happens on standard error, or on another `terminal` with --live=/dev/pts/N")
	flags.Lookup("live").NoOptDefVal = liveStderr
	flags.StringVar(&o.journal, "journal", "", "keep every event in the journal in this `folder`")
	flags.StringVar(&o.baselines, "baselines", "", "know what is usual from this `file`, and add to it what this session teaches")
	flags.StringVar(&o.metrics, "metrics", "", "serve Prometheus metrics on this `address` while the command runs")
	// Off by default: these variables are the agent's too, which tells its own telemetry by them.
	flags.BoolVar(&o.otlp, "otlp", false, "send events and metrics where the OTEL_EXPORTER_OTLP_* variables say; without it only where --config says")
	flags.StringVar(&o.summary, "summary", "", "write the summary to this `file` instead of standard error")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "print no summary on standard error")
	flags.StringArrayVar(&o.canaries, "canary", nil, "plant a `file` of fake credentials for the session: whoever touches it is a finding (may be repeated)")
	flags.BoolVar(&o.keep, "keep", false, "let processes that outlive the command live on, unwatched")
	return cmd
}

// run runs the session. The error carries the exit code.
func (o *runOptions) run(args []string) error {
	cfg, err := loadConfig(o.config)
	if err != nil {
		return err
	}
	if o.config == "" {
		cfg.Log.Level = "warn" // standard error is the command's too
	}
	log, _, err := newLogger(&cfg.Log, os.Stderr)
	if err != nil {
		return err
	}
	if err := requireRoot(); err != nil {
		return err
	}
	path, err := findCommand(args[0], os.Getenv("PATH"))
	if err != nil {
		return commandError(err)
	}
	planted, err := plantDecoys(o.canaries)
	if err != nil {
		return err
	}
	defer func() {
		if err := planted.remove(); err != nil {
			log.Warn("a canary is left behind", "error", err)
		}
	}()
	cfg.Detectors.Canaries = append(cfg.Detectors.Canaries, planted.canaries...)
	s := &session{options: o, cfg: cfg, log: log, desk: openDesk()}
	s.command = command{args: args, path: path, env: os.Environ(), terminal: borrowTerminal(os.Stdin, os.Stdout)}
	if s.command.nice, err = niceOf(0); err != nil {
		return err
	}
	return s.run()
}

// commandError gives the error of a command that cannot be run its exit code.
func commandError(err error) error {
	if failure := new(errCommand); errors.As(err, &failure) {
		return &exitError{failure.code, err}
	}
	return err
}

// requireRoot says so when this process is not root, before anything fails for it in a less clear way.
func requireRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("not root: watching needs to load BPF programs and to make cgroups; run it with sudo (`watchglass check` says what else is missing)")
	}
	return nil
}

// session is one run of a command.
type session struct {
	options *runOptions
	cfg     *config
	log     *slog.Logger
	desk    *desk
	command command

	leaf    *sandbox.Leaf
	sandbox *event.Sandbox
	watch   *watch
	// summarizer keeps the account of the session.
	summarizer *collector.Summarizer
	// outlived is the processes that outlived the command.
	outlived []*event.Process
}

// run makes the session, runs the command in it and takes it down. What was made is removed in any case.
func (s *session) run() error {
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	teardown, hurry := context.WithCancel(context.Background())
	defer hurry()
	s.desk.giveUp, s.desk.hurry = giveUp, hurry
	s.desk.kill = func() { _ = s.leaf.Kill() }
	go s.desk.serve()
	defer s.desk.close()

	code, err := 0, s.open(ctx)
	if err == nil {
		code, err = s.attend()
	}
	if ended := s.desk.gaveUp(); ended != 0 {
		code, err = exitSignal+int(ended), nil
	}
	closeErr := s.close(teardown)
	switch {
	case err != nil:
		return errors.Join(err, closeErr)
	case closeErr != nil:
		// The command has run, and its exit code is what the caller asked for.
		fmt.Fprintf(os.Stderr, "watchglass: %v\n", closeErr)
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// open makes everything that has to be there before the command starts.
func (s *session) open(ctx context.Context) error {
	mount, err := sandbox.FindMount()
	if err == nil {
		if stale := sandbox.RemoveStale(mount); len(stale) > 0 {
			s.log.Info("removed the cgroups of sessions that crashed", "cgroups", stale)
		}
		s.leaf, err = sandbox.NewLeaf(mount, strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(time.Now().UnixMilli(), 36))
	}
	if err != nil {
		return withRemedy(err)
	}
	s.command.cgroup = s.leaf.FD()
	settings := watchSettings{config: s.cfg, mount: mount, log: s.log, environment: s.options.otlp, instance: collector.NewInstance()}
	if settings.outputs, err = s.options.outputs(programResource(settings.instance)); err != nil {
		return err
	}
	s.summarizer = collector.NewSummarizer(s.leaf.ID)
	settings.outputs = append(settings.outputs, collector.ExporterSettings{Exporter: s.summarizer, WhenFull: collector.Block})
	if s.options.journal != "" {
		settings.journal = &s.cfg.Journal
		settings.journal.Enabled, settings.journal.Dir = true, s.options.journal
	}
	settings.baselines = s.options.baselines
	if s.options.metrics != "" {
		settings.metrics = &prometheus.Config{Address: s.options.metrics}
	}
	boost(s.log)
	if s.watch, err = openWatch(settings); err != nil {
		return err
	}
	// The session is worth watching without its hooks too.
	if err := s.watch.openHooks(s.cfg.Claims.Hooks.forSession()); err != nil {
		s.log.Warn("what the agent tells its hooks is not heard", "error", err)
	} else if s.watch.hooks != nil {
		s.command.env = withVariable(s.command.env, hookSocketVariable, s.watch.hooks.Path())
	}
	if err := s.watch.openReceiver(s.cfg.Claims.OTLP.forSession()); err != nil {
		s.log.Warn("what the agent tells by OTLP is not heard", "error", err)
	}
	s.command.env = s.watch.withReceiver(s.command.env)
	if s.watch.server != nil && !s.options.quiet {
		fmt.Fprintf(os.Stderr, "watchglass: metrics are at http://%s/metrics\n", s.watch.server.Address())
	}
	s.sandbox, err = s.watch.registry.Add(event.Sandbox{
		Name: s.name(), Runtime: sandbox.RuntimeRun, Cgroup: s.leaf.Path, CgroupID: s.leaf.ID,
	})
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err // a signal; its exit code is given by the caller
	}
	return s.watch.start()
}

func (s *session) name() string {
	if s.options.name != "" {
		return s.options.name
	}
	return s.command.args[0]
}

// withRemedy adds what to do about an error with cgroups.
func withRemedy(err error) error {
	if remedy := sandbox.Remedy(err); remedy != "" {
		return fmt.Errorf("%w; %s", err, remedy)
	}
	return err
}

// attend runs the command and returns its exit code.
func (s *session) attend() (int, error) {
	ended, err := s.desk.start(&s.command)
	if err != nil || ended != 0 {
		return 0, commandError(err)
	}
	status, err := s.command.wait()
	s.desk.over()
	if err != nil {
		return 0, err
	}
	return exitCode(status), nil
}

// settle deals with what outlived the command, until nobody is left in the cgroup.
func (s *session) settle(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if s.leaf.Wait(short) == nil {
		return nil
	}
	pids, err := s.leaf.Processes()
	if err != nil {
		return err
	}
	s.outlived = s.known(pids)
	s.watch.pipeline.Outlived(s.leaf.ID, s.outlived)
	if s.options.keep {
		if _, err := s.leaf.Release(); err != nil {
			return err
		}
		return nil
	}
	if err := s.leaf.Kill(); err != nil {
		return err
	}
	// Not cut short by a signal: as long as somebody is alive in it the cgroup cannot be removed.
	gone, cancelGone := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancelGone()
	return s.leaf.Wait(gone)
}

// close takes the session down and writes its summary. ctx ends when somebody is impatient.
func (s *session) close(ctx context.Context) error {
	if s.leaf == nil {
		return nil
	}
	var errs []error
	if s.desk.wasStarted() {
		errs = append(errs, s.settle(ctx))
		s.watch.pipeline.Measure() // the last word: what is used is forgotten with the cgroup
	}
	removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	errs = append(errs, s.leaf.Remove(removing))
	if s.watch == nil {
		return errors.Join(errs...)
	}
	draining, cancelDraining := context.WithTimeout(ctx, drainTime)
	defer cancelDraining()
	errs = append(errs, s.watch.stop(draining))
	// Before the rest, which may take a while, and of which there is nothing to tell.
	if s.sandbox != nil && s.desk.wasStarted() {
		errs = append(errs, s.summarise())
	}
	errs = append(errs, s.unload())
	_ = os.Remove(sessionDirectory()) // its own, unless somebody put something there
	return errors.Join(errs...)
}

// unloadTime is after how long it is told that the kernel is still at unloading.
const unloadTime = time.Second

// unload has the kernel let go of everything.
func (s *session) unload() error {
	if !s.options.quiet {
		late := time.AfterFunc(unloadTime, func() {
			fmt.Fprintln(os.Stderr, "watchglass: the kernel takes its time to let go of the programs, some seconds")
		})
		defer late.Stop()
	}
	return s.watch.close()
}

// summarise writes the summary where it is wanted.
func (s *session) summarise() error {
	summary := s.summarizer.Summary()
	summary.Outlived, summary.Lost = s.outlived, s.watch.stats.Lost
	cfg := text.DefaultConfig()
	if s.options.summary != "" {
		f, err := os.OpenFile(s.options.summary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("write the summary: %w", err)
		}
		return errors.Join(text.WriteSummary(f, cfg, &summary), f.Close())
	}
	if s.options.quiet {
		return nil
	}
	cfg.Colour = text.Colour(os.Stderr, os.Getenv("NO_COLOR"))
	return text.WriteSummary(os.Stderr, cfg, &summary)
}
