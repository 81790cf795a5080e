// SPDX-License-Identifier: Apache-2.0

// Command genbpf compiles every *.bpf.c of the current directory and writes its Go side.
//
// It owns the compiler, its flags and the list of types that get a Go twin: those that a source names in
// ABI_STRUCT. The output depends on the sources alone, not on where the checkout is. It must not be
// needed to build Watchglass: what it writes is committed.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// compiler is pinned: another version's objects differ byte for byte, and may not pass an old kernel's verifier.
const compiler = "clang-19"

// suffix is how sources end; what stands before it is the probe's name.
const suffix = ".bpf.c"

func main() {
	if err := generate(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "genbpf:", err)
		os.Exit(1)
	}
}

// generate compiles the named probes of the current directory, all of them when none is named.
func generate(probes []string) error {
	if _, err := exec.LookPath(compiler); err != nil {
		return fmt.Errorf("finding the compiler: %w", err)
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	sources, err := filepath.Glob("*" + suffix)
	if err != nil {
		return fmt.Errorf("listing sources: %w", err)
	}
	if len(probes) > 0 {
		sources = sources[:0]
	}
	for _, probe := range probes {
		sources = append(sources, probe+suffix)
	}
	if len(sources) == 0 {
		return errors.New("no *" + suffix + " in the current directory")
	}
	for _, source := range sources {
		if err := compile(root, source); err != nil {
			return fmt.Errorf("compiling %s: %w", source, err)
		}
	}
	return nil
}

// compile runs bpf2go on one source.
func compile(root, source string) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return fmt.Errorf("reading the source: %w", err)
	}
	// Other targets need a vmlinux.h of their own: names of types differ between architectures.
	args := []string{"tool", "bpf2go", "-cc", compiler, "-target", "amd64", "-no-global-types"}
	for _, m := range regexp.MustCompile(`(?m)^ABI_(?:STRUCT|ENUM)\((\w+)\)`).FindAllSubmatch(text, -1) {
		args = append(args, "-type", string(m[1]))
	}
	args = append(args, strings.TrimSuffix(source, suffix), source, "--",
		"-mcpu=v3", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-Wpadded",
		"-ffile-prefix-map="+root+"=.",
		"-isystem", filepath.Join(root, "headers"))
	cmd := exec.Command("go", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running bpf2go: %w", err)
	}
	return nil
}

// moduleRoot is the directory of go.mod at or above the current directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the current directory: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the current directory")
		}
		dir = parent
	}
}
