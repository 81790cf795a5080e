// SPDX-License-Identifier: Apache-2.0

// Package agents brings real coding agents to the end-to-end test: it owns which versions are
// installed and where, and the command line, environment and settings that make each of them talk to
// a model on loopback and to nothing else. It must not run an agent, nor know what a test expects of it.
package agents

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Package is one agent at one version, as npm knows it. The versions are pinned, since the shape of an
// agent's processes and environment changes between versions and the tests state that shape.
type Package struct {
	// Name is ours, Module npm's, Command the program's.
	Name, Module, Version, Command string
}

// Codex is OpenAI's Codex CLI.
func Codex() Package {
	return Package{Name: "codex", Module: "@openai/codex", Version: "0.169.0", Command: "codex"}
}

// ClaudeCode is Anthropic's Claude Code.
func ClaudeCode() Package {
	return Package{Name: "claude-code", Module: "@anthropic-ai/claude-code", Version: "2.1.197", Command: "claude"}
}

// GeminiCLI is Google's Gemini CLI.
func GeminiCLI() Package {
	return Package{Name: "gemini-cli", Module: "@google/gemini-cli", Version: "0.61.0", Command: "gemini"}
}

// OpenCode is opencode.
func OpenCode() Package {
	return Package{Name: "opencode", Module: "opencode-ai", Version: "1.18.33", Command: "opencode"}
}

// abandoned is the age at which an unfinished installation cannot be anyone's work in progress.
const abandoned = time.Hour

// Cache keeps installed agents between test runs: one is hundreds of megabytes.
type Cache struct {
	// Dir holds one directory for each package and version.
	Dir string
	// Install puts a package into an empty directory; NPM for the real thing.
	Install func(ctx context.Context, pkg Package, dir string) error
}

// UserCache is the cache in the user's cache directory, filled by npm.
func UserCache() (Cache, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return Cache{}, fmt.Errorf("find a place for installed agents: %w", err)
	}
	return Cache{Dir: filepath.Join(dir, "watchglass-e2e"), Install: NPM}, nil
}

// Command returns the path of the package's program, after installing the package when it is missing.
//
// An installation is made in a directory of its own and renamed into place when it is whole. So one that
// was cut short is never taken for an agent, and of two at the same time the second to finish is dropped.
func (c Cache) Command(ctx context.Context, pkg Package) (string, error) {
	home := filepath.Join(c.Dir, pkg.Name+"-"+pkg.Version)
	command := filepath.Join(home, "node_modules", ".bin", pkg.Command)
	if _, err := os.Stat(command); err == nil {
		return command, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache of agents: %w", err)
	}
	c.sweep()
	partial, err := os.MkdirTemp(c.Dir, filepath.Base(home)+".partial-")
	if err != nil {
		return "", fmt.Errorf("make a place to install %s: %w", pkg.Name, err)
	}
	defer func() { _ = os.RemoveAll(partial) }()
	if err := c.Install(ctx, pkg, partial); err != nil {
		return "", fmt.Errorf("install %s %s: %w", pkg.Name, pkg.Version, err)
	}
	if err := os.Rename(partial, home); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("put %s into place: %w", pkg.Name, err)
	}
	if _, err := os.Stat(command); err != nil {
		return "", fmt.Errorf("find the program of %s %s: %w", pkg.Name, pkg.Version, err)
	}
	return command, nil
}

// sweep removes what installations that were killed left behind. Failing at it costs disk, nothing else.
func (c Cache) sweep() {
	leftovers, err := filepath.Glob(filepath.Join(c.Dir, "*.partial-*"))
	if err != nil {
		return
	}
	for _, dir := range leftovers {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > abandoned {
			_ = os.RemoveAll(dir)
		}
	}
}

// NPM installs a package with npm, and checks that the program runs and is the version asked for: a
// package whose platform part was not fetched installs well and fails only when started.
func NPM(ctx context.Context, pkg Package, dir string) error {
	install := exec.CommandContext(ctx, "npm", "install", "--prefix", dir, "--no-audit", "--no-fund",
		"--no-update-notifier", "--loglevel=error", pkg.Module+"@"+pkg.Version)
	if output, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install: %w: %s", err, strings.TrimSpace(string(output)))
	}
	command := filepath.Join(dir, "node_modules", ".bin", pkg.Command)
	version := exec.CommandContext(ctx, command, "--version")
	version.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home")}
	output, err := version.Output()
	if err != nil {
		return fmt.Errorf("ask for the version: %w", err)
	}
	if !strings.Contains(string(output), pkg.Version) {
		return fmt.Errorf("want version %s, the program says %q", pkg.Version, strings.TrimSpace(string(output)))
	}
	return nil
}
