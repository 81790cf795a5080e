// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite depguard's rules in .golangci.yml")

const (
	linters    = ".golangci.yml"
	rulesBegin = "        # From the tables of internal/archtest: go test ./internal/archtest -update\n"
	rulesEnd   = "        # The end of what is generated.\n"
)

// TestDepguardHasTheSameRules holds the rules that an editor shows to the tables of this package.
func TestDepguardHasTheSameRules(t *testing.T) {
	text := string(read(t, linters))
	before, rest, ok := strings.Cut(text, rulesBegin)
	old, after, ok2 := strings.Cut(rest, rulesEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the lines between which depguard's rules stand", linters)
	}
	want := depguardRules()
	if old == want {
		return
	}
	if !*update {
		t.Fatalf("depguard's rules in %s are not those of this package: run go test ./internal/archtest -update", linters)
	}
	if err := os.WriteFile(filepath.Join(root, linters), []byte(before+rulesBegin+want+rulesEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// depguardRules is the tables as depguard's configuration. A path that ends with $ stands for itself, any
// other for all that begins with it.
func depguardRules() string {
	var out strings.Builder
	for _, layer := range layers {
		fmt.Fprintf(&out, "        layer-%s:\n          files: [\"**/%s/**\", \"!**/test/**\", \"!$test\"", layer.dir, layer.dir)
		for _, dir := range exceptions(layer.dir) {
			fmt.Fprintf(&out, ", \"!**/%s/**\"", dir)
		}
		out.WriteString("]\n")
		if pure(layer.dir) {
			fmt.Fprintf(&out, "          list-mode: strict\n          allow: [$gostd")
			for _, name := range append([]string{layer.dir}, layer.allowed...) {
				fmt.Fprintf(&out, ", %s%s", module, name)
			}
			out.WriteString("]\n")
		}
		out.WriteString("          deny:\n")
		for _, other := range []string{"cmd", "collector", "bpf", "detectors", "exporters", "policy", "test"} {
			if other != layer.dir && !slices.Contains(layer.allowed, other) {
				fmt.Fprintf(&out, "            - {pkg: %s%s, desc: %q}\n", module, other, layer.reason)
			}
		}
	}
	for i, m := range monopolies {
		fmt.Fprintf(&out, "        monopoly-%d:\n          files: [\"**/*.go\", \"!$test\"", i+1)
		for _, dir := range m.allowed {
			fmt.Fprintf(&out, ", \"!**/%s/**\"", dir)
		}
		name := m.prefix
		if !strings.Contains(name, ".") {
			name += "$"
		}
		fmt.Fprintf(&out, "]\n          deny:\n            - {pkg: %s, desc: %q}\n", name, m.reason)
	}
	return out.String()
}
