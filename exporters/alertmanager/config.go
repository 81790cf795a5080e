// SPDX-License-Identifier: Apache-2.0

package alertmanager

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/web"
)

// Config says which Alertmanagers are told of which findings.
type Config struct {
	// URLs is the Alertmanagers: all of a cluster, since each is told, and they agree among themselves.
	URLs []string `yaml:"urls"`
	// MinSeverity is info, low, medium, high or critical.
	MinSeverity string `yaml:"min_severity"`
	// ActiveFor is for how long an alert stays active after its finding was last seen.
	ActiveFor time.Duration `yaml:"active_for"`
	// RefreshInterval is how often an active alert is told again. One that is not is over after four of them.
	RefreshInterval time.Duration `yaml:"refresh_interval"`
	// MaxAlerts is how many alerts are remembered.
	MaxAlerts int `yaml:"max_alerts"`
	// Labels go with every alert: which cluster, which team.
	Labels map[string]string `yaml:"labels"`
	// RunbookURL is what the path of a runbook is appended to.
	RunbookURL string `yaml:"runbook_url"`
	// Timeout is how long one request may take.
	Timeout  time.Duration `yaml:"timeout"`
	web.Auth `yaml:",inline"`
	TLS      web.TLS `yaml:"tls"`
}

// DefaultConfig tells nobody, for lack of a URL.
func DefaultConfig() Config {
	return Config{
		MinSeverity: "medium", ActiveFor: 15 * time.Minute, RefreshInterval: time.Minute, MaxAlerts: 1024,
		RunbookURL: "https://github.com/watchglass/watchglass/blob/main/", Timeout: 10 * time.Second,
	}
}

// mostAlerts bounds MaxAlerts, which bounds memory.
const mostAlerts = 1 << 16

// Validate says everything that is wrong with the configuration, or nil.
func (c *Config) Validate() error {
	var errs []error
	if len(c.URLs) == 0 {
		errs = append(errs, errors.New("urls: name at least one Alertmanager, such as http://127.0.0.1:9093"))
	}
	for i, u := range c.URLs {
		if err := web.ValidateURL(u); err != nil {
			errs = append(errs, fmt.Errorf("urls[%d]: %w", i, err))
		}
	}
	if _, err := event.ParseFindingSeverity(c.MinSeverity); err != nil {
		errs = append(errs, fmt.Errorf("min_severity: %w", err))
	}
	if c.RefreshInterval < time.Second || c.ActiveFor < c.RefreshInterval {
		errs = append(errs, fmt.Errorf("refresh_interval: must be at least 1s and at most active_for (%v), not %v", c.ActiveFor, c.RefreshInterval))
	}
	if c.MaxAlerts < 1 || c.MaxAlerts > mostAlerts {
		errs = append(errs, fmt.Errorf("max_alerts: %d is not between 1 and %d", c.MaxAlerts, mostAlerts))
	}
	name := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	for _, label := range slices.Sorted(maps.Keys(c.Labels)) {
		if !name.MatchString(label) || !utf8.ValidString(c.Labels[label]) {
			errs = append(errs, fmt.Errorf("labels: %q cannot be the name of a label, or its value is not UTF-8", label))
		}
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: must be positive, not %v", c.Timeout))
	}
	return errors.Join(append(errs, c.Auth.Validate(), c.TLS.Validate())...)
}
