// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/web"
)

// The built-in templates.
const (
	TemplateJSON  = "json"
	TemplateSlack = "slack"
)

// Config is one receiver. In a list there are no defaults to write over: a zero field means the default.
type Config struct {
	// Name is what metrics and messages call it.
	Name string `yaml:"name"`
	// URL is where to post. At some services it is a secret: then URLFile is the file that holds it.
	URL     string `yaml:"url"`
	URLFile string `yaml:"url_file"`
	// MinSeverity is info, low, medium (the default), high or critical.
	MinSeverity string `yaml:"min_severity"`
	// Updates says whether updates of findings are told as well as new and resolved ones.
	Updates bool `yaml:"updates"`
	// Template is json (the default), slack, or the path of a Go text/template.
	Template string `yaml:"template"`
	// ContentType is what the template makes; the default is application/json.
	ContentType string `yaml:"content_type"`
	// HMACSecretFile holds the key with which requests are signed; "" signs none.
	HMACSecretFile string `yaml:"hmac_secret_file"`
	// MaxPerMinute is how many findings of one severity are told in a minute; the default is 30.
	MaxPerMinute int `yaml:"max_per_minute"`
	// RunbookURL is what the path of a runbook is appended to.
	RunbookURL string `yaml:"runbook_url"`
	// Timeout is how long one request may take; the default is 10 s.
	Timeout  time.Duration `yaml:"timeout"`
	web.Auth `yaml:",inline"`
	TLS      web.TLS   `yaml:"tls"`
	Retry    web.Retry `yaml:"retry"`
}

// withDefaults is the configuration with its zero fields set.
func (c Config) withDefaults() Config {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.MinSeverity, "medium")
	set(&c.Template, TemplateJSON)
	set(&c.ContentType, "application/json")
	set(&c.RunbookURL, "https://github.com/watchglass/watchglass/blob/main/")
	if c.MaxPerMinute == 0 {
		c.MaxPerMinute = 30
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Retry == (web.Retry{}) {
		c.Retry = web.Retry{Initial: time.Second, Max: 30 * time.Second, Elapsed: 15 * time.Minute}
	}
	return c
}

// Validate says everything that is wrong with the configuration, or nil.
func (c *Config) Validate() error {
	d := c.withDefaults()
	var errs []error
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`).MatchString(d.Name) {
		errs = append(errs, fmt.Errorf("name: %q: must be 1 to 32 of a-z, 0-9, - and _", d.Name))
	}
	switch {
	case (d.URL == "") == (d.URLFile == ""):
		errs = append(errs, errors.New("url: set it or url_file, and not both"))
	case d.URL != "":
		if err := web.ValidateURL(d.URL); err != nil {
			errs = append(errs, fmt.Errorf("url: %w", err))
		}
	}
	if _, err := event.ParseFindingSeverity(d.MinSeverity); err != nil {
		errs = append(errs, fmt.Errorf("min_severity: %w", err))
	}
	if d.MaxPerMinute < 1 {
		errs = append(errs, fmt.Errorf("max_per_minute: must be at least 1, not %d", d.MaxPerMinute))
	}
	if d.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: must be positive, not %v", d.Timeout))
	}
	return errors.Join(append(errs, d.Auth.Validate(), d.TLS.Validate(), d.Retry.Validate())...)
}
