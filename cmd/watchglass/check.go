// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/sandbox"
)

func newCheck() *cobra.Command {
	var asJSON bool
	var configPath string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what this machine supports, what is degraded, and what to do about it",
		Long: `Say what this machine supports, what is degraded, and what to do about it.

The exit code is 0 when 'watchglass collect' would work, and 1 when it would not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := examine(configPath)
			write := writeCheckTable
			if asJSON {
				write = writeCheckJSON
			}
			if err := write(cmd.OutOrStdout(), findings); err != nil {
				return err
			}
			if !works(findings) {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	cmd.Flags().StringVar(&configPath, "config", "", "check this configuration `file` too")
	return cmd
}

// checkState is how well one thing is supported.
type checkState string

const (
	checkOK       checkState = "ok"
	checkDegraded checkState = "degraded"
	checkMissing  checkState = "missing"
)

// checkFinding is one line of the table.
type checkFinding struct {
	Name   string     `json:"name"`
	State  checkState `json:"state"`
	Detail string     `json:"detail,omitempty"`
	Remedy string     `json:"remedy,omitempty"`
}

// works says whether nothing is missing that nothing works without.
func works(findings []checkFinding) bool {
	for _, f := range findings {
		if f.State == checkMissing {
			return false
		}
	}
	return true
}

// examine looks at this process's rights, the cgroups, the kernel and the configuration.
func examine(configPath string) []checkFinding {
	findings := []checkFinding{examineUser(), examineCgroups()}
	kernel := bpf.DefaultConfig()
	if cfg, err := loadConfig(configPath); err == nil {
		kernel = cfg.Kernel.tracer()
		kernel.Pins = cfg.pins()
	}
	for _, r := range bpf.Check(kernel) {
		f := checkFinding{Name: r.Name, State: checkOK, Detail: r.Detail}
		switch {
		case r.OK:
		case r.Required:
			f.State, f.Remedy = checkMissing, r.Remedy
		default:
			f.State, f.Remedy = checkDegraded, r.Remedy
		}
		findings = append(findings, f)
	}
	findings = append(findings, examineConfig(configPath))
	if cfg, err := loadConfig(configPath); err == nil {
		findings = append(findings, examinePins(cfg)...)
		if cfg.Journal.Enabled {
			findings = append(findings, examineJournal(&cfg.Journal))
		}
	}
	return findings
}

func examineUser() checkFinding {
	f := checkFinding{Name: "user", State: checkOK, Detail: "root"}
	if uid := os.Geteuid(); uid != 0 {
		f.State, f.Detail = checkMissing, fmt.Sprintf("not root (user id %d); what needs root is not looked at", uid)
		f.Remedy = "run it with sudo"
	}
	return f
}

func examineCgroups() checkFinding {
	f := checkFinding{Name: "cgroup layout", State: checkOK}
	m, err := sandbox.FindMount()
	if err != nil {
		f.State, f.Detail, f.Remedy = checkMissing, err.Error(), sandbox.Remedy(err)
		return f
	}
	f.Detail = "cgroup2 at " + m.Dir
	if m.Hybrid {
		f.Detail += ", beside v1 hierarchies (hybrid)"
	}
	if m.Root != "/" {
		f.Detail += ", of which only " + m.Root + " is visible"
	}
	if m.ReadOnly {
		f.State, f.Detail = checkDegraded, f.Detail+", read-only"
		f.Remedy = "`watchglass run` makes a cgroup and needs it writable; `watchglass collect` does not"
	}
	return f
}

func examineConfig(path string) checkFinding {
	f := checkFinding{Name: "configuration", State: checkOK, Detail: path}
	if path == "" {
		f.Detail = "the defaults"
	}
	if _, err := loadConfig(path); err != nil {
		f.State, f.Detail, f.Remedy = checkMissing, err.Error(), "correct the file; `watchglass collect --print-config` shows every setting"
	}
	return f
}

func writeCheckJSON(w io.Writer, findings []checkFinding) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(findings); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// writeCheckTable writes a line for each finding, its remedy below it, and the conclusion.
func writeCheckTable(w io.Writer, findings []checkFinding) error {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Name))
	}
	var b strings.Builder
	for _, f := range findings {
		line := fmt.Sprintf("%-*s  %-8s  %s", width, f.Name, f.State, strings.ReplaceAll(f.Detail, "\n", "; "))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%-*s  %-8s  → %s\n", width, "", "", f.Remedy)
		}
	}
	b.WriteString("\n" + conclusion(findings) + "\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func conclusion(findings []checkFinding) string {
	degraded := 0
	for _, f := range findings {
		if f.State == checkDegraded {
			degraded++
		}
	}
	switch {
	case !works(findings):
		return "watchglass collect would not work here: see what is missing."
	case degraded > 0:
		return "watchglass collect works here; what is degraded says what is missing from its picture."
	default:
		return "watchglass collect works here."
	}
}
