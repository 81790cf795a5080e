// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/policy"
)

func newCollect() *cobra.Command {
	var configPath string
	var printConfig, unpin bool
	cmd := &cobra.Command{
		Use:   "collect",
		Short: "Watch all sandboxes of this machine, as a daemon",
		Long: `Watch all sandboxes of this machine, as a daemon.

SIGHUP reads the configuration again; SIGTERM and SIGINT stop it after everything
that was seen is delivered. When it is killed the kernel goes on to record, and the
next one with the same configuration continues: see kernel.pins in the configuration.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printConfig {
				return printDefaults(cmd.OutOrStdout())
			}
			cfg, err := loadConfig(configPath)
			if err != nil {
				return err
			}
			if unpin {
				return unload(cfg)
			}
			return collect(cfg, configPath)
		},
	}
	cmd.Flags().StringVar(&configPath, "config", "", "read the configuration from this `file`")
	cmd.Flags().BoolVar(&unpin, "unload", false, "detach and remove what a collector with this configuration left in the kernel, and exit")
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "print the default configuration with its documentation and exit")
	return cmd
}

func printDefaults(w io.Writer) error {
	if _, err := w.Write(defaultConfigText); err != nil {
		return fmt.Errorf("print the default configuration: %w", err)
	}
	return nil
}

// daemon is `watchglass collect` at work.
type daemon struct {
	path  string
	cfg   *config
	log   *slog.Logger
	level *slog.LevelVar
	watch *watch
}

// collect runs the daemon until a signal ends it.
func collect(cfg *config, path string) error {
	log, level, err := newLogger(&cfg.Log, os.Stderr)
	if err != nil {
		return err
	}
	if err := requireRoot(); err != nil {
		return err
	}
	// From here on, so that one that comes during the start is not lost.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	mount, err := sandbox.FindMount()
	if err != nil {
		return withRemedy(err)
	}
	d := &daemon{path: path, cfg: cfg, log: log, level: level}
	settings := watchSettings{config: cfg, mount: mount, log: log, selectors: true, environment: true, instance: collector.NewInstance()}
	files, err := cfg.Exporters.outputs(cfg.Journal.Enabled, programResource(settings.instance))
	if err != nil {
		return err
	}
	settings.outputs, settings.files = files.fromMemory, files.fromJournal
	settings.canaryInterval = cfg.Exporters.CanaryInterval
	settings.journal, settings.baselines = &cfg.Journal, cfg.baselines()
	settings.pins = cfg.pins()
	if cfg.Exporters.Prometheus.Enabled {
		settings.metrics = &cfg.Exporters.Prometheus.Config
	}
	boost(d.log)
	if d.watch, err = openWatch(settings); err != nil {
		return err
	}
	if err := errors.Join(d.watch.openHooks(cfg.Claims.Hooks), d.watch.openReceiver(cfg.Claims.OTLP)); err != nil {
		return errors.Join(err, d.watch.close())
	}
	if err := d.watch.openControl(cfg.Control); err != nil {
		return errors.Join(err, d.watch.close())
	}
	if len(cfg.Sandboxes.Cgroups) == 0 {
		log.Warn("sandboxes.cgroups is empty: nothing will be watched")
	}
	return d.run(signals)
}

func (d *daemon) run(signals <-chan os.Signal) error {
	if err := d.watch.start(); err != nil {
		return errors.Join(err, d.watch.stop(context.Background()), d.watch.close())
	}
	d.log.Info("watching", "sandboxes", d.watch.registry.Len(), "version", version())
	d.tell("READY=1")
	var failure error
	for running := true; running; {
		select {
		case failure = <-d.watch.failed:
			running = false
		case s := <-signals:
			if s == syscall.SIGHUP {
				d.tell("RELOADING=1")
				d.reload()
				d.tell("READY=1")
				continue
			}
			d.log.Info("stopping", "signal", s.String())
			running = false
		}
	}
	d.tell("STOPPING=1")
	return errors.Join(failure, d.stop(signals))
}

// stop delivers everything that was seen. Another signal cuts that short.
func (d *daemon) stop(signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	go func() {
		for s := range signals {
			if s != syscall.SIGHUP {
				d.log.Warn("stopping at once", "signal", s.String())
				cancel()
				return
			}
		}
	}()
	err := errors.Join(d.watch.stop(ctx), d.watch.close())
	d.log.Info("stopped")
	return err
}

func (d *daemon) tell(state string) {
	if err := notify(state); err != nil {
		d.log.Warn("the service manager was not told", "error", err)
	}
}

// reload reads the configuration again and puts in force what can be while it runs. A file that is
// wrong changes nothing.
func (d *daemon) reload() {
	cfg, err := loadConfig(d.path)
	if err != nil {
		d.log.Error("the configuration is not reloaded, the old one stays in force", "error", err)
		return
	}
	if err := d.apply(cfg); err != nil {
		d.log.Error("the configuration is not reloaded as a whole", "error", err)
		return
	}
	if later := needsRestart(d.cfg, cfg); len(later) > 0 {
		d.log.Warn("these settings changed and take effect only after a restart", "settings", later)
	}
	d.log.Info("the configuration is reloaded", "sandboxes", d.watch.registry.Len())
}

// apply puts the reloadable settings of a valid configuration in force and remembers them.
func (d *daemon) apply(cfg *config) error {
	compiled, err := policy.New(&cfg.Policy)
	if err != nil {
		return err
	}
	selectors, err := sandbox.ParseSelectors(cfg.Sandboxes.Cgroups)
	if err != nil {
		return err
	}
	level, err := cfg.Log.level()
	if err != nil {
		return err
	}
	loaded, err := cfg.Detectors.loadRules()
	if err != nil {
		return err
	}
	profiles, err := cfg.Detectors.profiles(loaded)
	if err != nil {
		return err
	}
	d.level.Set(level)
	d.watch.store.resize(&d.cfg.Journal, &cfg.Journal)
	d.watch.policy.Swap(compiled)
	d.watch.detectors.swap(loaded, profiles)
	d.watch.detectors.set(cfg.Detectors.Disabled)
	d.cfg.Log.Level, d.cfg.Policy = cfg.Log.Level, cfg.Policy
	d.cfg.Detectors.Rules, d.cfg.Detectors.Profiles = cfg.Detectors.Rules, cfg.Detectors.Profiles
	d.cfg.Detectors.Disabled, d.cfg.Sandboxes.Cgroups = cfg.Detectors.Disabled, cfg.Sandboxes.Cgroups
	return d.watch.choose(selectors)
}

// needsRestart is the sections in which a configuration differs from the one in force, in whose
// reloadable settings they agree already.
func needsRestart(inForce, wanted *config) []string {
	var sections []string
	for _, section := range []struct {
		name string
		a, b any
	}{
		{"log.format", inForce.Log, wanted.Log},
		{"sandboxes.max", inForce.Sandboxes.Max, wanted.Sandboxes.Max},
		{"sandboxes.usage_interval", inForce.Sandboxes.UsageInterval, wanted.Sandboxes.UsageInterval},
		{"kernel", inForce.Kernel, wanted.Kernel},
		{"detectors", inForce.Detectors, wanted.Detectors},
		{"claims", inForce.Claims, wanted.Claims},
		{"control", inForce.Control, wanted.Control},
		{"journal", inForce.Journal, wanted.Journal},
		{"exporters", inForce.Exporters, wanted.Exporters},
	} {
		if !reflect.DeepEqual(section.a, section.b) {
			sections = append(sections, section.name)
		}
	}
	return sections
}
