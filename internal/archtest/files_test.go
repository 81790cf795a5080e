// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestFilesNameNoCheckout looks for the directory of this checkout in every file, objects included: what
// names the place where it was made works, or is reproduced, only there.
func TestFilesNameNoCheckout(t *testing.T) {
	checkout, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(checkout, "/") < 2 {
		t.Skipf("%s is too short a path to look for", checkout)
	}
	for _, path := range paths(t) {
		if bytes.Contains(read(t, path), []byte(checkout+"/")) {
			t.Errorf("%s names %s, where it was made: use a path relative to the repository", path, checkout)
		}
	}
}

// TestLinks follows the relative links of every page.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)`)
	found := 0
	for _, path := range paths(t) {
		if filepath.Ext(path) != ".md" {
			continue
		}
		for _, match := range link.FindAllSubmatch(read(t, path), -1) {
			target := string(match[1])
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", path, target)
			}
		}
	}
	if found == 0 {
		t.Error("no page links to another: is the pattern right?")
	}
}

// TestMakeTargetsExist looks up every `make target` that a page tells its reader to type.
func TestMakeTargetsExist(t *testing.T) {
	targets := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^([a-z0-9-]+):`).FindAllSubmatch(read(t, "Makefile"), -1) {
		targets[string(match[1])] = true
	}
	mention := regexp.MustCompile("(?m)(?:`|^)make ([a-z0-9-]+)")
	for _, path := range paths(t) {
		// A detector's page tells what agents type, in projects of their own.
		if filepath.Ext(path) != ".md" || strings.HasPrefix(path, "docs/detectors/") {
			continue
		}
		for _, match := range mention.FindAllSubmatch(read(t, path), -1) {
			if !targets[string(match[1])] {
				t.Errorf("%s tells its reader to make %s: the Makefile has no such target", path, match[1])
			}
		}
	}
}

// TestMakeHelpNamesEveryTarget holds the Makefile to say of each target what it is for.
func TestMakeHelpNamesEveryTarget(t *testing.T) {
	text := string(read(t, "Makefile"))
	for _, match := range regexp.MustCompile(`(?m)^([a-z0-9-]+):(.*)$`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(match[2], "## ") {
			t.Errorf("make %s has no ## text, so plain make does not tell what it is for", match[1])
		}
		if !strings.Contains(text, ".PHONY: "+match[1]+"\n") {
			t.Errorf("make %s is not .PHONY: a file of that name would make it do nothing", match[1])
		}
	}
}

// TestKernelTestsAskForTheKernel holds tests to the names by which the levels choose them: what asks for
// eBPF must be named TestKernel…, or it would run, and fail to run, among the unit tests.
func TestKernelTestsAskForTheKernel(t *testing.T) {
	name := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, path := range paths(t) {
		if !strings.HasSuffix(path, "_test.go") || slices.Contains([]string{"test/e2e", "internal/archtest"}, filepath.Dir(path)) {
			continue
		}
		text := string(read(t, path))
		positions := name.FindAllStringSubmatchIndex(text, -1)
		for i, at := range positions {
			end := len(text)
			if i+1 < len(positions) {
				end = positions[i+1][0]
			}
			test := text[at[2]:at[3]]
			body, _, _ := strings.Cut(text[at[0]:end], "\n}\n")
			if strings.Contains(body, "testenv.RequireEBPF(") && !strings.HasPrefix(test, "TestKernel") {
				t.Errorf("%s: %s needs eBPF: name it TestKernel…, so that the levels of tests can tell", path, test)
			}
		}
	}
}
