// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/exporters/prometheus"
)

var update = flag.Bool("update", false, "rewrite the files that the tests compare with")

const documentation = "../../docs/configuration.md"

// TestConfigurationPage holds the page to the defaults: its last code block is the default configuration.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	const heading = "## All settings\n\n"
	before, _, ok := bytes.Cut(page, []byte(heading))
	if !ok {
		t.Fatalf("%s has no %q", documentation, heading)
	}
	want := fmt.Appendf(nil, "%s%s```yaml\n%s```\n", before, heading, defaultConfigText)
	if *update {
		if err := os.WriteFile(documentation, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(page, want) {
		t.Errorf("%s does not show the defaults: run `go test ./cmd/watchglass -run TestConfigurationPage -update`", documentation)
	}
}

// TestDefaultsAreComplete checks that the default configuration names every setting there is.
func TestDefaultsAreComplete(t *testing.T) {
	var document yaml.Node
	if err := yaml.Unmarshal(defaultConfigText, &document); err != nil {
		t.Fatal(err)
	}
	for _, path := range missingSettings(document.Content[0], reflect.TypeFor[config](), "") {
		t.Errorf("config.yaml lacks %s", path)
	}
}

func missingSettings(node *yaml.Node, t reflect.Type, path string) []string {
	if t.Kind() != reflect.Struct {
		return nil
	}
	var missing []string
	for name, field := range settings(t) {
		value := child(node, name)
		if value == nil {
			missing = append(missing, joinPath(path, name))
			continue
		}
		missing = append(missing, missingSettings(value, field, joinPath(path, name))...)
	}
	return missing
}

// TestEverySettingIsExplained checks that a comment stands before every setting, or before a run of them.
// What the adapters read of environments, the kernel side has to be asked for.
func TestEnvironmentIsAskedFor(t *testing.T) {
	asked := bpf.DefaultConfig().Environment
	for _, name := range agent.Environment() {
		if !slices.Contains(asked, name) {
			t.Errorf("%s is read by an adapter and not asked for", name)
		}
	}
}

func TestEverySettingIsExplained(t *testing.T) {
	previous := ""
	for number, line := range strings.Split(string(defaultConfigText), "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed != "" && !strings.HasPrefix(trimmed, "- ") && previous == "" && !strings.HasPrefix(trimmed, "#") {
			t.Errorf("config.yaml:%d: %q has no comment before it", number+1, trimmed)
		}
		previous = trimmed
	}
}

// TestDefaultsAreTheParts checks that the file's defaults are those that the parts declare.
func TestDefaultsAreTheParts(t *testing.T) {
	cfg, err := defaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cfg.Kernel.tracer(), bpf.DefaultConfig(); !reflect.DeepEqual(got, want) {
		t.Errorf("kernel: %+v, the tracer's defaults are %+v", got, want)
	}
	want := detectors.DefaultConfig()
	want.Toolchains, want.Canaries = []string{}, []string{}
	want.Profiles = []detectors.ProfileConfig{}
	if got := cfg.Detectors.Config; !reflect.DeepEqual(got, want) {
		t.Errorf("detectors: %+v, their defaults are %+v", got, want)
	}
	if got, want := cfg.Exporters.Prometheus.Config, prometheus.DefaultConfig(); got != want {
		t.Errorf("exporters.prometheus: %+v, its defaults are %+v", got, want)
	}
}
