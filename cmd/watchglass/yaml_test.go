// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestConfigFileErrors(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "log:\n  level: info\nsandbox:\n  cgroups: []\n", `C:3: unknown key "sandbox"; is "sandboxes" meant?`},
		{"unknown key inside", "policy:\n  network:\n    alow: []\n", `C:3: unknown key "alow" in policy.network; is "allow" meant?`},
		{"unknown key like none", "log:\n  colour: true\n", `C:2: unknown key "colour" in log; there are: format, level`},
		{
			"unknown key in a list", "policy:\n  files:\n    allow:\n      - {path: /a, program: /b}\n",
			`C:4: unknown key "program" in policy.files.allow[0]; there are: executable, path`,
		},
		{"two unknown keys", "a: 1\nb: 2\n", "C:1: unknown key \"a\"; there are: claims, control, detectors, exporters, hashes, journal, kernel, log, policy, sandboxes\nC:2: unknown key \"b\"; there are: claims, control, detectors, exporters, hashes, journal, kernel, log, policy, sandboxes"},
		{"wrong type", "kernel:\n  ring_bytes: much\n", `C:2: "much" is text, a whole number is needed`},
		{"list for text", "log:\n  level: [info]\n", `C:2: here is a list, text is needed`},
		{"text for list", "sandboxes:\n  cgroups: /docker/*\n", `C:2: "/docker/*" is text, a list is needed`},
		{"number for group", "log: 3\n", `C:1: "3" is a whole number, a group of settings is needed`},
		{"list for group", "- log\n", `C:1: here is a list, a group of settings is needed`},
		{"not a duration", "detectors:\n  fresh_for: ten\n", `C:2: "ten" is text, a duration like "1m30s" is needed`},
		{"not a boolean", "exporters:\n  text:\n    enabled: maybe\n", `C:3: "maybe" is text, true or false is needed`},
		{"bad counting", "kernel:\n  syscall_counts: maybe\n", `C:2: kernel: counting can be auto, true or false, not "maybe"`},
		{"bad plan", "kernel:\n  plan: kprobes\n", `C:2: kernel: "kprobes" is no hook plan`},
		{"twice", "log:\n  level: info\nlog:\n  level: warn\n", `C:3: mapping key "log" already defined at line 1`},
		{"not YAML", "log:\n\tlevel: info\n", "C:2: not YAML: found character that cannot start any token"},
		{"two documents", "log: {}\n---\nlog: {}\n", "C: holds more than one document (a line with --- starts another)"},
		{"bad level", "log:\n  level: loud\n", `C:2: log.level: "loud" is none of debug, info, warn and error`},
		{"bad selector", "sandboxes:\n  cgroups:\n    - /fine\n    - bad\n", `C:4: sandboxes.cgroups[1]: "bad": begins with`},
		{"bad destination", "policy:\n  network:\n    allow: [10.0.0.0/8,\n      10.0.0.0/99]\n", `C:4: policy.network.allow[1]: "10.0.0.0/99": `},
		{"bad detector", "detectors:\n  disabled: [secret-read, none]\n", `C:2: detectors.disabled[1]: "none" is no detector; there are: secret-read, `},
		{"bad baselines", "detectors:\n  baselines:\n    window: 1ms\n", `C:3: detectors.baselines.window: 1ms is not between 1s and 10m0s`},
		{"bad place for baselines", "detectors:\n  baselines: {path: here}\n", `C:2: detectors.baselines.path: "here" is not an absolute path`},
		{
			"bad profile", "detectors:\n  profiles:\n    - agent: codex\n      disabled: [burst,\n        none]\n",
			`C:5: detectors.profiles[0].disabled[1]: "none" is no detector`,
		},
		{
			"bad exception", "detectors:\n  profiles:\n    - exceptions:\n        - detector: burst\n",
			`C:4: detectors.profiles[0].exceptions[0].object: neither it nor executable is set`,
		},
		{"bad size", "kernel:\n  ring_bytes: 1000\n", `C:2: kernel: ring size 1000 is not a power of two`},
		{"bad address", "exporters:\n  prometheus:\n    address: nowhere\n", `C:3: exporters.prometheus.address: must be host:port`},
		{
			"destination without an endpoint", "exporters:\n  destinations:\n    - name: a\n      compression: none\n",
			`C:3: exporters.destinations[0].endpoint: `,
		},
		{
			"destination to nowhere", "exporters:\n  destinations:\n    - name: a\n      endpoint: siem:4317\n",
			`C:4: exporters.destinations[0].endpoint: `,
		},
		{
			"destination of a wrong kind", "exporters:\n  destinations:\n    - name: a\n      endpoint: http://siem\n      filter:\n        kinds:\n          - watchglass.find*\n          - finding\n",
			`C:8: exporters.destinations[0].filter.kinds[1]: "finding" is no event`,
		},
		{
			"destination twice", "exporters:\n  destinations:\n    - {name: a, endpoint: http://siem}\n    - {name: a, endpoint: http://siem}\n",
			`C:4: exporters.destinations[1].name: "a" is the name of exporters.destinations[0]`,
		},
		{"destination with otlp's name", "exporters:\n  destinations:\n    - {name: otlp, endpoint: http://siem}\n", `C:3: exporters.destinations[0].name: "otlp" is the name of exporters.otlp`},
		{"json without a path", "exporters:\n  json: {enabled: true}\n", `C:2: exporters.json.path: must name the file to write`},
	} {
		cfg, err := defaultConfig()
		if err != nil {
			t.Fatal(err)
		}
		err = decodeConfig("C", []byte(test.text), cfg)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v\nwant %s", test.name, err, test.want)
		}
	}
}

func TestConfigFileOverDefaults(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "comments": "# nothing\n", "null": "log:\n", "null document": "~\n", "group without keys": "log: {}\n",
	} {
		cfg, err := defaultConfig()
		if err != nil {
			t.Fatal(err)
		}
		defaults := *cfg
		if err := decodeConfig("C", []byte(text), cfg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(*cfg, defaults) {
			t.Errorf("%s changes the defaults: %+v", name, *cfg)
		}
	}
	cfg, err := defaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	const text = "sandboxes:\n  cgroups: [/a]\nkernel:\n  environment: [X]\ndetectors: {fresh_for: 1h}\n"
	if err := decodeConfig("C", []byte(text), cfg); err != nil {
		t.Fatal(err)
	}
	if len(cfg.Sandboxes.Cgroups) != 1 || len(cfg.Kernel.Environment) != 1 || cfg.Detectors.FreshFor.Hours() != 1 || cfg.Sandboxes.Max == 0 {
		t.Errorf("%+v", cfg)
	}
}

func TestReadConfigFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := loadConfig(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := loadConfig(dir); err == nil {
		t.Error("a directory is no error")
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, maxConfigBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadConfig(large); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge file: %v", err)
	}
}

func FuzzDecodeConfig(f *testing.F) {
	f.Add([]byte(defaultConfigText))
	f.Add([]byte("log: {level: [}"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("log: &l\n  <<: *l\n"))
	f.Add([]byte("policy: {files: {allow: [{path: 1}]}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg := &config{}
		err := decodeConfig("C", text, cfg)
		wrong := new(fileError)
		if err != nil && !errors.As(err, &wrong) {
			t.Errorf("an error without its file: %v", err)
		}
		if err == nil {
			if err := cfg.Validate(); err != nil {
				t.Errorf("accepted what is invalid: %v", err)
			}
		}
	})
}
