// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"testing"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// The OTEL_EXPORTER_OTLP_ variables of a session are its agent's: what they say must neither stop
// `watchglass run` nor send its events anywhere.
func TestSessionsVariablesAreTheAgents(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	cfg, err := loadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	metrics := exporters.NewMetrics(func() event.Stats { return event.Stats{} })
	settings := watchSettings{config: cfg, log: slog.New(slog.DiscardHandler)}
	if outputs, err := new(watch).openOTLP(&settings, metrics); err != nil || len(outputs) != 0 {
		t.Errorf("without leave: %d exporters, %v; want none", len(outputs), err)
	}
	settings.environment = true
	if _, err := new(watch).openOTLP(&settings, metrics); err == nil {
		t.Error("with leave, a protocol that Watchglass does not speak is no error")
	}
}

// The resource names the start whose id begins the uid of every event, so that a restart can be told
// from a gap.
func TestResourceNamesThisStart(t *testing.T) {
	found := map[event.Key]string{}
	for _, a := range programResource("abc") {
		found[a.Key] = a.Value.Text()
	}
	if found[event.ServiceInstanceID] != "abc" || found[event.ServiceName] != "watchglass" || found[event.OSType] != "linux" {
		t.Errorf("resource: %v", found)
	}
}
