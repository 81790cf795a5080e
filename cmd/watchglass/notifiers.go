// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/alertmanager"
	"github.com/watchglass/watchglass/exporters/webhook"
)

// findingsQueue is how many findings may wait for an output that takes nothing else.
const findingsQueue = 4096

// maxWebhooks bounds the list: each has a queue and a goroutine.
const maxWebhooks = 32

// notifiers is the outputs that tell people of findings.
func (c *exportersConfig) notifiers(resource []event.Attribute, log *slog.Logger) ([]collector.ExporterSettings, error) {
	var list []collector.ExporterSettings
	if c.Alertmanager.Enabled {
		e, err := alertmanager.Open(c.Alertmanager.Config, alertmanager.Settings{Resource: resource, Logger: log})
		if err != nil {
			return nil, err
		}
		list = append(list, collector.ExporterSettings{Exporter: e, Accepts: e.Accepts, QueueSize: findingsQueue})
	}
	for _, cfg := range c.Webhooks {
		e, err := webhook.Open(cfg, webhook.Settings{Resource: resource, Logger: log})
		if err != nil {
			return nil, err
		}
		list = append(list, collector.ExporterSettings{Exporter: e, Accepts: e.Accepts, QueueSize: findingsQueue})
	}
	return list, nil
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
