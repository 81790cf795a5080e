// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"testing"
)

func TestPageIsUpToDate(t *testing.T) {
	want, err := generate("../../event")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/telemetry.md is not what the sources say: run make generate")
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
	page, err := generate("../../event")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### `watchglass.process.exec`", "* `process.command_args`", "| `process.command_args` | string[] |",
		"### `watchglass.network.flow`", "* `network.peer.address`", "| `watchglass.network.bytes_sent` | int |",
	} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
