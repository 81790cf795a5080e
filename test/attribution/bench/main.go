// SPDX-License-Identifier: Apache-2.0

// Command bench plays every scenario with every agent and writes docs/attribution.md. It owns what is played and where
// the page goes; it must not judge. It needs root, node and npm, and installs the agents where they are missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/test/attribution"
	"github.com/watchglass/watchglass/test/e2e/agents"
)

func main() {
	only := flag.String("agents", strings.Join(attribution.Names(), ","), "the agents")
	scenarios := flag.String("scenarios", "", "the scenarios; all when empty")
	keep := flag.String("keep", "", "keep the events of each session in this directory")
	page := flag.String("page", "docs/attribution.md", "write this page; none when empty")
	rounds := flag.Int("rounds", 1, "how often each is played")
	flag.Parse()
	if err := run(*only, *scenarios, *keep, *page, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "attribution:", err)
		os.Exit(1)
	}
}

func run(only, scenarios, keep, page string, rounds int) error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "watchglass-bench-join-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "watchglass")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "./cmd/watchglass")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build watchglass: %w\n%s", err, output)
	}
	cache, err := agents.UserCache()
	if err != nil {
		return err
	}
	runner := attribution.Runner{Watchglass: program, Cache: cache, Keep: keep}
	var results []attribution.Result
	var failed error
	for agent := range strings.SplitSeq(only, ",") {
		for _, scenario := range attribution.Scenarios() {
			if !scenario.For(agent) || scenarios != "" && !slices.Contains(strings.Split(scenarios, ","), scenario.Name) {
				continue
			}
			for range rounds {
				start := time.Now()
				score, err := runner.Run(ctx, agent, scenario)
				if err != nil { // the others are worth seeing; the page is not written
					fmt.Println(err)
					failed = errors.Join(failed, fmt.Errorf("%s, %s failed", agent, scenario.Name))
					continue
				}
				results = append(results, attribution.Result{Agent: agent, Scenario: scenario, Score: score})
				fmt.Printf("%-9s %-11s %5.1f s  marks %3d found %3d missed %d unseen %d  strangers %d stolen %d  forged %d", agent, scenario.Name,
					time.Since(start).Seconds(), score.Marks, score.Found, score.Missed, score.Unseen, score.Strangers, score.Stolen, score.Forged)
				for _, way := range score.SortedWays() {
					cell := score.Ways[way]
					fmt.Printf("  %s/%s %d+%d", way.Method, way.Confidence, cell.Right, cell.Wrong)
				}
				fmt.Println()
			}
		}
	}
	if page == "" || failed != nil {
		return failed
	}
	return os.WriteFile(page, []byte(attribution.Page(results, machine())), 0o644)
}

// machine says when and on what was measured.
func machine() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		release = []byte("unknown")
	}
	return fmt.Sprintf("on %s, Linux %s, %d processors, with Codex %s, Claude Code %s, Gemini CLI %s and opencode %s", time.Now().UTC().Format(time.DateOnly),
		strings.TrimSpace(string(release)), runtime.NumCPU(), agents.Codex().Version, agents.ClaudeCode().Version, agents.GeminiCLI().Version, agents.OpenCode().Version)
}
