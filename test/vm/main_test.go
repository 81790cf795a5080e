// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestNewestPackageComesLast(t *testing.T) {
	names := []string{
		"linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64",
		"linux-image-6.1.0-56-cloud-amd64-unsigned", "linux-image-6.1.0-47-cloud-amd64",
	}
	slices.SortFunc(names, compareVersions)
	want := []string{
		"linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-47-cloud-amd64",
		"linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64-unsigned",
	}
	if !slices.Equal(names, want) {
		t.Errorf("order is %v, want %v", names, want)
	}
}

func TestVerdictIsTheMachinesLastWord(t *testing.T) {
	for _, c := range []struct{ console, verdict, shown string }{
		{"=== RUN\r\nPASS\r\nVM-EXIT 0\r\n", "0", "6.1\t=== RUN\n6.1\tPASS\n"},
		{"VM-EXIT 0\nVM-EXIT 1\n", "1", ""},
		{"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\r\n\x1bcVM-EXIT 0\n", "0", "6.1\tSeaBIOS\n"},
		{"Kernel panic\n", "", "6.1\tKernel panic\n"},
	} {
		var shown strings.Builder
		if got := follow(strings.NewReader(c.console), machine{name: "6.1", out: &console{to: &shown}}); got != c.verdict || shown.String() != c.shown {
			t.Errorf("follow(%q) = %q and shows %q, want %q and %q", c.console, got, shown.String(), c.verdict, c.shown)
		}
	}
}
