// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/control"
	"github.com/watchglass/watchglass/collector/digest"
	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/exporters/alertmanager"
	"github.com/watchglass/watchglass/exporters/json"
	"github.com/watchglass/watchglass/exporters/otlp"
	"github.com/watchglass/watchglass/exporters/prometheus"
	"github.com/watchglass/watchglass/exporters/text"
	"github.com/watchglass/watchglass/exporters/webhook"
	"github.com/watchglass/watchglass/policy"
)

// defaultConfigText is the default configuration with its documentation: what --print-config prints,
// what docs/configuration.md shows, and what is in force without a file.
//
//go:embed config.yaml
var defaultConfigText []byte

// config is the configuration file: the parts' own configurations, put together.
type config struct {
	Log       logConfig       `yaml:"log"`
	Sandboxes sandboxesConfig `yaml:"sandboxes"`
	Kernel    kernelConfig    `yaml:"kernel"`
	Hashes    hashesConfig    `yaml:"hashes"`
	Policy    policy.Config   `yaml:"policy"`
	Detectors detectorsConfig `yaml:"detectors"`
	Claims    claimsConfig    `yaml:"claims"`
	Control   control.Config  `yaml:"control"`
	Journal   journalConfig   `yaml:"journal"`
	Exporters exportersConfig `yaml:"exporters"`
}

type logConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

type sandboxesConfig struct {
	Cgroups []string `yaml:"cgroups"`
	Max     int      `yaml:"max"`
	// UsageInterval is how often usage is measured; 0 never.
	UsageInterval time.Duration `yaml:"usage_interval"`
}

// hashesConfig is whether programs are hashed, and within which bounds.
type hashesConfig struct {
	Enabled  bool  `yaml:"enabled"`
	MaxBytes int64 `yaml:"max_bytes"`
	Files    int   `yaml:"files"`
	Waiting  int   `yaml:"waiting"`
}

func (c *hashesConfig) bounds() digest.Config {
	return digest.Config{MaxBytes: c.MaxBytes, Files: c.Files, Waiting: c.Waiting}
}

// digester is what hashes programs, nil where that is not wanted.
func (c *hashesConfig) digester() (*digest.Digester, error) {
	if !c.Enabled {
		return nil, nil //nolint:nilnil // nobody asks one that is not there
	}
	return digest.New(c.bounds())
}

type kernelConfig struct {
	RingBytes     int          `yaml:"ring_bytes"`
	BulkBudget    int          `yaml:"bulk_bytes_per_second"`
	KeptBudget    int          `yaml:"kept_bytes_per_second"`
	MaxSandboxes  int          `yaml:"max_sandboxes"`
	Environment   []string     `yaml:"environment"`
	Plan          bpf.Plan     `yaml:"plan"`
	SyscallCounts bpf.Counting `yaml:"syscall_counts"`
	// SyscallLatency is as in bpf.Config.
	SyscallLatency bool `yaml:"syscall_latency"`
	FileIO         bool `yaml:"file_io"`
	// FlowInterval is as in bpf.Config.
	FlowInterval time.Duration `yaml:"flow_interval"`
	// Pins is for the daemon alone.
	Pins pinsConfig `yaml:"pins"`
}

type detectorsConfig struct {
	Disabled         []string `yaml:"disabled"`
	Rules            []string `yaml:"rules"`
	detectors.Config `yaml:",inline"`
}

type exportersConfig struct {
	Text textConfig  `yaml:"text"`
	JSON jsonConfig  `yaml:"json"`
	OTLP otlp.Config `yaml:"otlp"`
	// Destinations is places for events besides that of OTLP.
	Destinations []otlp.LogsConfig `yaml:"destinations"`
	Prometheus   prometheusConfig  `yaml:"prometheus"`
	// CanaryInterval is how often a canary is made; 0 never.
	CanaryInterval time.Duration      `yaml:"canary_interval"`
	Alertmanager   alertmanagerConfig `yaml:"alertmanager"`
	Webhooks       []webhook.Config   `yaml:"webhooks"`
}

type textConfig struct {
	Enabled     bool   `yaml:"enabled"`
	Path        string `yaml:"path"`
	text.Config `yaml:",inline"`
}

type jsonConfig struct {
	Enabled     bool `yaml:"enabled"`
	json.Config `yaml:",inline"`
}

type prometheusConfig struct {
	Enabled           bool `yaml:"enabled"`
	prometheus.Config `yaml:",inline"`
}

type alertmanagerConfig struct {
	Enabled             bool `yaml:"enabled"`
	alertmanager.Config `yaml:",inline"`
}

// defaultConfig is the configuration without a file.
func defaultConfig() (*config, error) {
	cfg := &config{}
	if err := decodeConfig("default configuration", defaultConfigText, cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

// loadConfig is the defaults with what the file at path says instead; without a path the defaults.
func loadConfig(path string) (*config, error) {
	cfg, err := defaultConfig()
	if err != nil || path == "" {
		return cfg, err
	}
	text, err := readConfigFile(path)
	if err != nil {
		return nil, err
	}
	if err := decodeConfig(path, text, cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

// Validate says what is wrong with the configuration. The error begins with the setting's path.
func (c *config) Validate() error {
	if _, err := c.Log.level(); err != nil {
		return err
	}
	if f := c.Log.Format; f != "text" && f != "json" {
		return fmt.Errorf("log.format: %q is neither text nor json", f)
	}
	if err := c.Sandboxes.validate(); err != nil {
		return err
	}
	kernel := c.Kernel.tracer()
	if err := kernel.Validate(); err != nil {
		return prefixed("kernel: ", err)
	}
	if err := c.Kernel.Pins.validate(); err != nil {
		return err
	}
	hashes := c.Hashes.bounds()
	if err := hashes.Validate(); err != nil {
		return prefixed("hashes: ", err)
	}
	if err := c.Policy.Validate(); err != nil {
		return err // begins with "policy."
	}
	if err := c.Detectors.Validate(); err != nil {
		return err // begins with "detectors."
	}
	if err := c.Claims.validate(); err != nil {
		return err
	}
	if err := c.Control.Validate(); err != nil {
		return prefixed("control.", err)
	}
	return errors.Join(c.Journal.validate(), c.Exporters.validate())
}

func (c *logConfig) level() (slog.Level, error) {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	level, ok := levels[c.Level]
	if !ok {
		return 0, fmt.Errorf("log.level: %q is none of debug, info, warn and error", c.Level)
	}
	return level, nil
}

// mostSandboxes bounds sandboxes.max, which bounds memory.
const mostSandboxes = 1 << 16

func (c *sandboxesConfig) validate() error {
	if c.Max < 1 || c.Max > mostSandboxes {
		return fmt.Errorf("sandboxes.max: %d is not between 1 and %d", c.Max, mostSandboxes)
	}
	if c.UsageInterval != 0 && c.UsageInterval < time.Second {
		return fmt.Errorf("sandboxes.usage_interval: must be 0s or at least 1s, not %v", c.UsageInterval)
	}
	_, err := sandbox.ParseSelectors(c.Cgroups)
	if wrong := new(sandbox.SelectorError); errors.As(err, &wrong) {
		return fmt.Errorf("sandboxes.cgroups[%d]: %q: %w", wrong.Index, wrong.Pattern, wrong.Err)
	}
	if err != nil {
		return fmt.Errorf("sandboxes.cgroups: %w", err)
	}
	return nil
}

// tracer is the section as the tracer takes it.
func (c *kernelConfig) tracer() bpf.Config {
	return bpf.Config{
		RingBytes: c.RingBytes, BulkBudget: c.BulkBudget, KeptBudget: c.KeptBudget,
		MaxSandboxes: c.MaxSandboxes, Environment: c.Environment, SyscallCounts: c.SyscallCounts, FileIO: c.FileIO,
		SyscallLatency: c.SyscallLatency, Plan: c.Plan, FlowInterval: c.FlowInterval,
	}
}

// Validate says what is wrong with the section.
func (c *detectorsConfig) Validate() error {
	if len(c.Disabled)+len(c.Rules)+len(c.Profiles) == 0 {
		return c.Config.Validate() // there is no id to know, and no file to read: compiling the rules can wait
	}
	ids, err := detectorIDs()
	if err != nil {
		return err
	}
	set, err := c.loadRules()
	if err != nil {
		return fmt.Errorf("detectors.rules: %w", err)
	}
	for _, r := range set.Rules() {
		ids = append(ids, r.Declaration().ID)
	}
	for i, id := range c.Disabled {
		if !slices.Contains(ids, id) {
			return fmt.Errorf("detectors.disabled[%d]: %q is no detector; there are: %s", i, id, strings.Join(ids, ", "))
		}
	}
	if _, err := detectors.NewProfiles(c.Profiles, func(id string) bool { return slices.Contains(ids, id) }); err != nil {
		return err // begins with "detectors.profiles"
	}
	return c.Config.Validate()
}

func (c *exportersConfig) validate() error {
	var errs []error
	if c.Text.Enabled {
		errs = append(errs, prefixed("exporters.text.", c.Text.Validate()))
	}
	if c.JSON.Enabled {
		errs = append(errs, prefixed("exporters.json.", c.JSON.Validate()))
	}
	if c.Prometheus.Enabled {
		errs = append(errs, prefixed("exporters.prometheus.", c.Prometheus.Validate()))
	}
	errs = append(errs, c.validateNotifiers(), c.validateDestinations())
	return errors.Join(append(errs, prefixed("exporters.otlp.", c.OTLP.Validate()))...)
}

// prefixed completes the paths of settings in a part's errors.
func prefixed(prefix string, err error) error {
	var errs []error
	for _, e := range single(err) {
		errs = append(errs, fmt.Errorf("%s%w", prefix, e))
	}
	return errors.Join(errs...)
}

// single is the errors that were joined into err.
func single(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, single(e)...)
	}
	return list
}
