// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/alertmanager"
	"github.com/watchglass/watchglass/exporters/otlp"
	"github.com/watchglass/watchglass/exporters/webhook"
)

// otlpName is the destination that exporters.otlp describes.
const otlpName = "otlp"

// otlpFlushInterval lets events gather into requests: one for each would be dear.
const otlpFlushInterval = time.Second

// otlpBatchSize is the most events of a request: as many as its bound in bytes has room for, so that the time to
// an answer is not what bounds the events a second.
const otlpBatchSize = 4096

// maxDestinations bounds exporters.destinations, each of which has a queue or a cursor of its own.
const maxDestinations = 64

// otlpConfig is the configuration of OTLP, with what the environment adds to it.
func (s *watchSettings) otlpConfig() (otlp.Config, error) {
	cfg := s.config.Exporters.OTLP
	if !s.environment {
		return cfg, nil
	}
	cfg, err := cfg.WithEnvironment(otlp.DefaultConfig(), os.LookupEnv)
	if err != nil {
		return cfg, fmt.Errorf("otlp exporter: %w", err)
	}
	return cfg, nil
}

// logs is every place for events by OTLP, and the configuration that the first one is from.
func (s *watchSettings) logs() ([]otlp.LogsConfig, otlp.Config, error) {
	cfg, err := s.otlpConfig()
	if err != nil {
		return nil, cfg, err
	}
	var list []otlp.LogsConfig
	if cfg.LogsEnabled() {
		list = append(list, cfg.LogsConfig(otlpName))
	}
	for _, d := range s.config.Exporters.Destinations {
		list = append(list, d.WithDefaults())
	}
	return list, cfg, nil
}

// openTraces makes what turns sessions into traces, and what sends them; nothing where they have no endpoint. With a
// journal the spans that are complete go into that, and are sent from there.
func (w *watch) openTraces(s *watchSettings) ([]collector.ExporterSettings, []collector.DestinationSettings, error) {
	cfg, err := s.otlpConfig()
	if err != nil || !cfg.TracesEnabled() {
		return nil, nil, err
	}
	settings := otlp.Settings{Resource: programResource(s.instance), Logger: s.log, Environment: os.LookupEnv}
	if w.store.journal == nil {
		traces, err := otlp.OpenTraces(cfg, settings)
		if err != nil {
			return nil, nil, err
		}
		return []collector.ExporterSettings{{Exporter: traces, FlushInterval: otlpFlushInterval}}, nil, nil
	}
	spans, err := otlp.OpenSpans(cfg, settings)
	if err != nil {
		return nil, nil, err
	}
	traces := otlp.RecordTraces(otlp.SpanRecorder{
		Instance: s.instance, Append: w.store.journal.AppendSpans, Unfinished: w.store.journal.Unfinished,
	}, settings)
	// Spans wait in memory no longer than events do.
	return []collector.ExporterSettings{{Exporter: traces, FlushInterval: spansInterval}},
		[]collector.DestinationSettings{{Destination: spans, Spans: true, BatchSize: otlpBatchSize, FlushInterval: otlpFlushInterval}}, nil
}

// spansInterval lets spans gather for the journal.
const spansInterval = 100 * time.Millisecond

// openOTLP makes what sends logs and metrics by OTLP, as the configuration and the environment say.
func (w *watch) openOTLP(s *watchSettings, metrics *exporters.Metrics) ([]collector.DestinationSettings, error) {
	list, cfg, err := s.logs()
	if err != nil {
		return nil, err
	}
	settings := otlp.Settings{Resource: programResource(s.instance), Logger: s.log, Environment: os.LookupEnv}
	var destinations []collector.DestinationSettings
	for _, d := range list {
		logs, err := otlp.OpenLogs(d, settings)
		if err != nil {
			return nil, err
		}
		destinations = append(destinations, collector.DestinationSettings{
			Destination: logs, Wants: d.Filter.Wants(), Least: d.Filter.Least(), Oldest: d.Start == otlp.StartOldest,
			BatchSize: otlpBatchSize, FlushInterval: otlpFlushInterval, Delivered: metrics.Delivered,
		})
	}
	if cfg.MetricsEnabled() {
		var err error
		if w.push, err = otlp.OpenMetrics(cfg, metrics, settings); err != nil {
			return nil, err
		}
	}
	return destinations, nil
}

// validateDestinations says what is wrong with exporters.destinations.
func (c *exportersConfig) validateDestinations() error {
	if n := len(c.Destinations); n > maxDestinations {
		return fmt.Errorf("exporters.destinations: %d are more than %d", n, maxDestinations)
	}
	var errs []error
	first := map[string]int{}
	for i, d := range c.Destinations {
		prefix := fmt.Sprintf("exporters.destinations[%d].", i)
		errs = append(errs, prefixed(prefix, d.WithDefaults().Validate()))
		if d.Name == otlpName {
			errs = append(errs, fmt.Errorf("%sname: %q is the name of exporters.otlp", prefix, d.Name))
		} else if d.Name == alertmanager.DestinationName || strings.HasPrefix(d.Name, webhook.DestinationName("")) {
			errs = append(errs, fmt.Errorf("%sname: %q is the name of an output of findings", prefix, d.Name))
		} else if d.Name == jsonName || d.Name == textName || d.Name == otlp.TracesName {
			errs = append(errs, fmt.Errorf("%sname: %q is the name of exporters.%s", prefix, d.Name, strings.ReplaceAll(d.Name, "-", ".")))
		} else if before, ok := first[d.Name]; ok {
			errs = append(errs, fmt.Errorf("%sname: %q is the name of exporters.destinations[%d]", prefix, d.Name, before))
		}
		first[d.Name] = i
	}
	return errors.Join(errs...)
}
