// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"reflect"
	"testing"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/otlp"
)

// TestDestinations: each one that the file names is opened, with what it wants.
func TestDestinations(t *testing.T) {
	t.Setenv("WATCHGLASS_TEST_TOKEN", "s3cret")
	cfg, err := defaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	text := `
exporters:
  otlp: {logs: {endpoint: "http://127.0.0.1:1"}, profile: ecs, filter: {min_severity: medium}, start: oldest}
  destinations:
    - {name: siem, endpoint: "http://127.0.0.1:2", headers: {authorization: "Bearer ${env:WATCHGLASS_TEST_TOKEN}"},
       profile: ocsf, filter: {kinds: [watchglass.finding], min_severity: high}}
    - {name: lake, endpoint: "http://127.0.0.1:3/v1/logs", protocol: http/protobuf, compression: zstd}
`
	if err := decodeConfig("C", []byte(text), cfg); err != nil {
		t.Fatal(err)
	}
	w := &watch{}
	s := &watchSettings{config: cfg, log: slog.New(slog.DiscardHandler)}
	metrics := exporters.NewMetrics(func() event.Stats { return event.Stats{} })
	list, err := w.openOTLP(s, metrics)
	if err != nil {
		t.Fatal(err)
	}
	high := &event.Encoded{Kind: event.KindFinding, Severity: event.SeverityHigh}
	low := &event.Encoded{Kind: event.KindFinding, Severity: event.SeverityLow}
	exec := &event.Encoded{Kind: event.KindProcessExec, Severity: event.SeverityInfo}
	var names []string
	for _, d := range list {
		names = append(names, d.Destination.Name())
		if d.Destination.Name() == "siem" && (!d.Wants(high) || d.Wants(low) || d.Wants(exec)) {
			t.Error("siem does not get what it wants")
		}
		if d.Destination.Name() == "otlp" && (!d.Wants(high) || d.Wants(low) || d.Wants(exec) || d.Least != event.SeverityMedium) {
			t.Error("otlp does not get what it wants")
		}
		if (d.Destination.Name() == "otlp") != d.Oldest {
			t.Errorf("%s begins at the wrong end: oldest %v", d.Destination.Name(), d.Oldest)
		}
		if d.Destination.Name() == "lake" && d.Wants != nil {
			t.Errorf("%s does not get everything", d.Destination.Name())
		}
		if err := d.Destination.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"otlp", "siem", "lake"}; !reflect.DeepEqual(names, want) {
		t.Errorf("destinations %v, want %v", names, want)
	}
	if w.push != nil {
		t.Error("metrics are pushed nowhere")
	}
	cfg.Exporters.Destinations[0].Headers = otlp.Headers{"authorization": "${env:WATCHGLASS_TEST_NONE}"}
	if _, err := w.openOTLP(s, metrics); err == nil {
		t.Error("a header whose variable is not set is taken for right")
	}
}
