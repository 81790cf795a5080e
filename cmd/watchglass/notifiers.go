// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/alertmanager"
	"github.com/watchglass/watchglass/exporters/otlp"
	"github.com/watchglass/watchglass/exporters/webhook"
)

// findingsQueue is how many findings may wait for an output that takes nothing else.
const findingsQueue = 4096

// maxWebhooks bounds the list: each has a queue and a goroutine.
const maxWebhooks = 32

// notifierSettings is what the outputs that tell people of findings get from the program.
type notifierSettings struct {
	resource []event.Attribute
	log      *slog.Logger
	// ruleTitle is what the rule of that id finds; "" when it is not known.
	ruleTitle func(rule string) string
	canary    time.Duration
}

func (s *notifierSettings) alertmanager() alertmanager.Settings {
	return alertmanager.Settings{Resource: s.resource, Logger: s.log}
}

func (s *notifierSettings) webhook() webhook.Settings {
	return webhook.Settings{Resource: s.resource, Logger: s.log, RuleTitle: s.ruleTitle, CanaryInterval: s.canary}
}

// notifiers is the outputs that tell people of findings, fed from memory: for who keeps no journal.
func (c *exportersConfig) notifiers(s *notifierSettings) ([]collector.ExporterSettings, error) {
	var list []collector.ExporterSettings
	if c.Alertmanager.Enabled {
		e, err := alertmanager.Open(c.Alertmanager.Config, s.alertmanager())
		if err != nil {
			return nil, err
		}
		list = append(list, collector.ExporterSettings{Exporter: e, Accepts: e.Accepts, QueueSize: findingsQueue})
	}
	for _, cfg := range c.Webhooks {
		e, err := webhook.Open(cfg, s.webhook())
		if err != nil {
			return nil, err
		}
		list = append(list, collector.ExporterSettings{Exporter: e, Accepts: e.Accepts, QueueSize: findingsQueue})
	}
	return list, nil
}

// findingsDestination is an output that tells people of findings and is fed from the journal.
type findingsDestination interface {
	collector.Destination
	Wants() func(*event.Encoded) bool
	Least() event.Severity
	BatchSize() int
}

// findings is the outputs that tell people of findings, fed from the journal in dir.
func (c *exportersConfig) findings(dir string, s *notifierSettings) ([]collector.DestinationSettings, error) {
	var list []collector.DestinationSettings
	add := func(d findingsDestination) {
		list = append(list, collector.DestinationSettings{
			Destination: d, Wants: d.Wants(), Least: d.Least(), BatchSize: d.BatchSize(),
		})
	}
	if c.Alertmanager.Enabled {
		d, err := alertmanager.OpenDestination(c.Alertmanager.Config, s.alertmanager(), otlp.Decode)
		if err != nil {
			return nil, err
		}
		add(d)
		if err := recallAlerts(dir, d); err != nil {
			s.log.Warn("alerts of before this start cannot be told on, and end in their own time", "error", err)
		}
	}
	for _, cfg := range c.Webhooks {
		d, err := webhook.OpenDestination(cfg, s.webhook(), otlp.Decode)
		if err != nil {
			return nil, err
		}
		add(d)
	}
	return list, nil
}

// recallAlerts tells an output of the findings that a start before this one may have told it of, and that may be
// active still.
func recallAlerts(dir string, d *alertmanager.Destination) error {
	reader, err := journal.OpenReader(dir, journal.Query{
		Since: time.Now().Add(-d.ActiveFor()), Kinds: []event.Kind{event.KindFinding}, MinSeverity: d.Least(), PriorityOnly: true,
	})
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		e, ok, err := reader.Next()
		if err != nil || !ok {
			return err
		}
		if err := d.Recall(e); err != nil {
			return err
		}
	}
}

func (c *exportersConfig) validateNotifiers() error {
	var errs []error
	if c.CanaryInterval != 0 && c.CanaryInterval < time.Second {
		errs = append(errs, fmt.Errorf("exporters.canary_interval: must be 0s or at least 1s, not %v", c.CanaryInterval))
	}
	if c.Alertmanager.Enabled {
		errs = append(errs, prefixed("exporters.alertmanager.", c.Alertmanager.Validate()))
	}
	if len(c.Webhooks) > maxWebhooks {
		errs = append(errs, fmt.Errorf("exporters.webhooks: %d are more than %d", len(c.Webhooks), maxWebhooks))
	}
	names := map[string]bool{}
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		errs = append(errs, prefixed(fmt.Sprintf("exporters.webhooks[%d].", i), w.Validate()))
		if names[w.Name] {
			errs = append(errs, fmt.Errorf("exporters.webhooks[%d].name: there is another %q", i, w.Name))
		}
		names[w.Name] = true
	}
	return errors.Join(errs...)
}
