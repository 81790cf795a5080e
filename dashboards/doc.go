// SPDX-License-Identifier: Apache-2.0

// Package dashboards embeds the Grafana dashboards and the Prometheus alert rules, so that tests hold them
// to the metrics that exist. It owns what operators look at. It must not define metrics
// (exporters/metrics.go does).
package dashboards

import "embed"

// Files is the dashboard, the rules and the runbooks.
//
//go:embed overview.json sandboxes.json alerts.yml rules_test.yml runbooks/*.md
var Files embed.FS
