// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/detectors/rules"
	"github.com/watchglass/watchglass/exporters"
)

// mostRuleFiles bounds what a pattern may match.
const mostRuleFiles = 1024

// mostRuleBytes is the most that is read of a file of rules: what is longer is refused by package rules.
const mostRuleBytes = 16 << 20

// loadRules compiles the built-in rules and those of the configuration.
func (c *detectorsConfig) loadRules() (*rules.Set, error) {
	sources, err := rules.Builtin()
	if err != nil {
		return nil, err
	}
	own, err := readRules(c.Rules)
	if err != nil {
		return nil, err
	}
	return rules.Load(append(sources, own...)...)
}

// readRules reads the files that patterns name. A pattern without wildcards must name a file.
func readRules(patterns []string) ([]rules.Source, error) {
	var sources []rules.Source
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("%q is no pattern of files: %w", pattern, err)
		}
		if len(names) == 0 && !strings.ContainsAny(pattern, "*?[") {
			names = []string{pattern}
		}
		for _, name := range names {
			if len(sources) == mostRuleFiles {
				return nil, fmt.Errorf("there are more than %d files of rules", mostRuleFiles)
			}
			source, err := readRuleFile(name)
			if err != nil {
				return nil, err
			}
			sources = append(sources, source)
		}
	}
	return sources, nil
}

func readRuleFile(name string) (rules.Source, error) {
	file, err := os.Open(name)
	if err != nil {
		return rules.Source{}, fmt.Errorf("open rules: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(file, mostRuleBytes))
	if err != nil {
		return rules.Source{}, fmt.Errorf("read rules: %w", err)
	}
	return rules.Source{Name: name, Data: data}, nil
}

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Check, test, list and explain detection rules",
		Long: `Check, test, list and explain detection rules: detectors that are written as text.

Rules stand in YAML files; docs/rules.md describes them. The built-in ones are in the
same format.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRulesLint(), newRulesTest(), newRulesList(), newRulesExplain(), newRulesImport())
	return cmd
}

func newRulesLint() *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE...",
		Short: "Check files of rules, and say what a reviewer would",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := loadRuleFiles(args)
			if err != nil {
				return err
			}
			remarks := set.Lint()
			var out strings.Builder
			for _, remark := range remarks {
				fmt.Fprintln(&out, exporters.Printable(remark))
			}
			fmt.Fprintf(&out, "%d rules, %d remarks\n", len(set.Rules()), len(remarks))
			return printed(cmd, out.String(), len(remarks) > 0)
		},
	}
}

func newRulesTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE...",
		Short: "Run the tests that stand in files of rules",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := loadRuleFiles(args)
			if err != nil {
				return err
			}
			failed := 0
			var out strings.Builder
			results := set.Test()
			for _, r := range results {
				if r.Failure == "" {
					fmt.Fprintf(&out, "ok    %s: %s\n", r.Rule, exporters.Printable(r.Test))
					continue
				}
				failed++
				fmt.Fprintf(&out, "FAIL  %s: %s (%s:%d)\n      %s\n", r.Rule, exporters.Printable(r.Test), r.File, r.Line, exporters.Printable(r.Failure))
			}
			fmt.Fprintf(&out, "%d passed, %d failed\n", len(results)-failed, failed)
			return printed(cmd, out.String(), failed > 0)
		},
	}
}

func newRulesList() *cobra.Command {
	return &cobra.Command{
		Use:   "list [FILE...]",
		Short: "List the built-in rules, and those of files",
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := (&detectorsConfig{Rules: args}).loadRules()
			if err != nil {
				return err
			}
			var out strings.Builder
			table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
			fmt.Fprint(table, "ID\tSEVERITY\tATT&CK\tON\tTITLE\n") //nolint:errcheck // into memory
			for _, r := range set.Rules() {
				d := r.Declaration()
				var kinds []string
				for _, kind := range d.Kinds {
					kinds = append(kinds, strings.TrimPrefix(string(kind), "watchglass."))
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", d.ID, d.Severity.FindingName(), //nolint:errcheck // into memory
					strings.Join(d.Attack, ","), strings.Join(kinds, ","), exporters.Printable(d.Title))
			}
			if err := table.Flush(); err != nil {
				return fmt.Errorf("print the rules: %w", err)
			}
			return printed(cmd, out.String(), false)
		},
	}
}

func newRulesExplain() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "explain [--rule ID] [FILE...]",
		Short: "Say what a rule waits for, what it costs and how it is bounded",
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := (&detectorsConfig{Rules: args}).loadRules()
			if err != nil {
				return err
			}
			chosen := slices.DeleteFunc(set.Rules(), func(r *rules.Rule) bool {
				if id != "" {
					return r.Declaration().ID != id
				}
				return len(args) > 0 && !slices.Contains(args, r.File)
			})
			if len(chosen) == 0 {
				return errors.New("there is no such rule: watchglass rules list names them")
			}
			var out strings.Builder
			for _, r := range chosen {
				for text := range strings.Lines(r.Explain()) {
					fmt.Fprintln(&out, exporters.Printable(strings.TrimSuffix(text, "\n")))
				}
			}
			return printed(cmd, out.String(), false)
		},
	}
	cmd.Flags().StringVar(&id, "rule", "", "only the rule with this `id`")
	return cmd
}

func newRulesImport() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "import-sigma FILE...",
		Short: "Convert Sigma rules for Linux",
		Long: `Convert Sigma rules for Linux: of processes, files, connections and DNS questions.

What could not be converted is said on standard error, with the reason. Read what
was: a rule that was written for a log of another kind may see more here.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sources, err := readRules(args)
			if err != nil {
				return err
			}
			file, converted, failures := rules.ImportSigma(sources...)
			for _, failure := range failures {
				cmd.PrintErrln(exporters.Printable(failure.Error()))
			}
			cmd.PrintErrf("%d converted, %d not\n", converted, len(failures))
			if converted == 0 {
				return &exitError{code: 1}
			}
			if output == "" {
				return printed(cmd, string(file), false)
			}
			if err := os.WriteFile(output, file, 0o600); err != nil {
				return fmt.Errorf("write the rules: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this `file` instead of standard output")
	return cmd
}

func loadRuleFiles(patterns []string) (*rules.Set, error) {
	sources, err := readRules(patterns)
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("no file matches %s", strings.Join(patterns, " "))
	}
	return rules.Load(sources...)
}

// printed prints the result of a command, which then fails or not.
func printed(cmd *cobra.Command, text string, failed bool) error {
	if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	if failed {
		return &exitError{code: 1}
	}
	return nil
}
