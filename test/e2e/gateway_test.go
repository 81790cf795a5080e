// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/internal/testenv"
	"github.com/watchglass/watchglass/test/e2e/backend"
)

// TestGatewayValidates: the real Collector takes every configuration of deploy/otel-collector, alone and
// with all others, and would not take anything.
func TestGatewayValidates(t *testing.T) {
	testenv.E2E(t)
	binary, err := backend.Build(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "deploy", "otel-collector")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	validate := func(names ...string) (string, error) {
		args := []string{"validate", "--config", filepath.Join(dir, "gateway.yaml")}
		for _, name := range names {
			args = append(args, "--config", name)
		}
		command := exec.CommandContext(t.Context(), binary, args...)
		command.Env = append(command.Environ(), "GATEWAY_QUEUE="+t.TempDir())
		output, err := command.CombinedOutput()
		return string(output), err
	}
	var backends []string
	for _, file := range files {
		switch name := filepath.Base(file); name {
		case "gateway.yaml", "watchglass.yaml":
		case "tls.yaml": // of no use alone
		default:
			backends = append(backends, file)
			if output, err := validate(file); err != nil {
				t.Errorf("%s: %v\n%s", name, err, output)
			}
		}
	}
	if len(backends) < 6 {
		t.Errorf("only %q", backends)
	}
	if output, err := validate(append(backends, filepath.Join(dir, "tls.yaml"))...); err != nil {
		t.Errorf("all of them: %v\n%s", err, output)
	}
	for _, wrong := range []string{"yaml:exporters::otlphttp/loki::endpiont: x", "yaml:service::pipelines::logs/loki::exporters: [none]"} {
		if output, err := validate(filepath.Join(dir, "loki.yaml"), wrong); err == nil || !strings.Contains(output, "loki") {
			t.Errorf("%s is taken: %v\n%s", wrong, err, output)
		}
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(t.Context(), path, "check", "--config", filepath.Join(dir, "watchglass.yaml")).CombinedOutput(); err != nil {
		t.Errorf("watchglass.yaml: %v\n%s", err, output)
	}
}
