// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestPageIsUpToDate(t *testing.T) {
	for _, output := range []string{"../../docs/telemetry.md", "../../event/registry.go"} {
		want, err := generate("../../event", filepath.Ext(output))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the sources say: run make generate", output)
		}
	}
}

func TestEveryAttributeIsDescribed(t *testing.T) {
	s, err := load("../../event")
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range s.keys {
		if key.doc == "" {
			t.Errorf("%s (%s) has no description in attr.go", name, key.name)
		}
	}
}

func TestEventsNameTheirAttributes(t *testing.T) {
	page, err := generate("../../event", ".md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### `watchglass.process.exec`", "* `process.command_args`", "| `process.command_args` | string[] |",
		"### `watchglass.tool.call`\n\nThe start or the end of a tool call, or what the kernel saw of it.\n\nSeverity: error or info.\n\n* `gen_ai.agent.name`",
		"### `watchglass.network.flow`", "* `network.peer.address`", "| `watchglass.network.bytes_sent` | int |",
	} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
