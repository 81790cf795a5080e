// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/collector/agent/hook"
	"github.com/watchglass/watchglass/collector/agent/setup"
)

// agentsOptions is the flags of `watchglass agents`.
type agentsOptions struct {
	config, endpoint, socket string
	write, remove            bool
	noHooks, noOTLP          bool
	prompts, redacted        bool
}

func newAgents() *cobra.Command {
	o := &agentsOptions{}
	cmd := &cobra.Command{
		Use:   "agents",
		Short: "Have coding agents tell Watchglass what they do",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&o.config, "config", "", "take the receiver's address and the hooks' socket from this `file`")
	cmd.PersistentFlags().StringVar(&o.endpoint, "endpoint", "", "the base `URL` of the OTLP receiver, over HTTP (default: where --config has it)")
	cmd.PersistentFlags().StringVar(&o.socket, "socket", "", "where hooks speak to outside of `watchglass run`: a `path`, when it is not the configuration's")
	list := &cobra.Command{
		Use:   "list",
		Short: "List the agents, and whether they are set up",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.list(cmd.OutOrStdout()) },
	}
	set := &cobra.Command{
		Use:   "setup codex|claude|gemini|opencode",
		Short: "Print, or write, an agent's own configuration",
		Long: `Print what the configuration of an agent of this user has to be for the agent to
tell Watchglass what it does: by OTLP, and by hooks. With --write it is written: the
other settings and the comments stay, what was there before is kept beside it, and
doing it again changes nothing. With --remove it is taken out again.

A file that cannot be read is not touched.`,
		Example: `  watchglass agents setup claude
  watchglass agents setup codex --write --endpoint http://127.0.0.1:4318`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.setUp(args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := set.Flags()
	flags.BoolVar(&o.write, "write", false, "write the files instead of printing them")
	flags.BoolVar(&o.remove, "remove", false, "take the settings out again")
	flags.BoolVar(&o.noHooks, "no-hooks", false, "set up OTLP alone")
	flags.BoolVar(&o.noOTLP, "no-otlp", false, "set up hooks alone")
	flags.BoolVar(&o.prompts, "prompts", false, "have the agent tell the text of prompts")
	flags.BoolVar(&o.redacted, "redacted", false, "have the agent leave out what its tools are asked; calls are then joined by ids and time alone")
	cmd.AddCommand(list, set)
	return cmd
}

// settings is what agents are to be told.
func (o *agentsOptions) settings() (setup.Settings, error) {
	cfg, err := loadConfig(o.config)
	if err != nil {
		return setup.Settings{}, err
	}
	s := setup.Settings{Prompts: o.prompts, Redacted: o.redacted}
	if !o.noOTLP {
		if s.Endpoint = o.endpoint; s.Endpoint == "" {
			s.Endpoint = cfg.Claims.OTLP.url()
		}
	}
	if o.noHooks {
		return s, nil
	}
	program, err := os.Executable()
	if err != nil {
		return setup.Settings{}, fmt.Errorf("find this program for the hooks: %w", err)
	}
	s.Hook = quoted(program) + " " + hookName
	socket := o.socket
	if socket == "" {
		socket = cfg.Claims.Hooks.Path
	}
	if socket != "" && socket != hook.DefaultPath {
		s.Hook += " --socket " + quoted(socket)
	}
	return s, nil
}

// quoted is a word as a shell reads it.
func quoted(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// places is where this user's agents keep their configuration.
func places() (setup.Places, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return setup.Places{}, fmt.Errorf("find the agents' configuration: %w", err)
	}
	return setup.Places{
		Home: home, Codex: os.Getenv("CODEX_HOME"), Claude: os.Getenv("CLAUDE_CONFIG_DIR"), XDG: os.Getenv("XDG_CONFIG_HOME"),
	}, nil
}

func (o *agentsOptions) setUp(name string, out, notes io.Writer) error {
	agent, err := setup.Find(name)
	if err != nil {
		return err
	}
	at, err := places()
	if err != nil {
		return err
	}
	s, err := o.settings()
	if err != nil {
		return err
	}
	var changes []setup.Change
	if o.remove {
		changes, err = agent.PlanRemoval(at)
	} else {
		changes, err = agent.Plan(at, s)
	}
	if err != nil {
		return err
	}
	for _, c := range changes {
		if err := o.change(&c, out); err != nil {
			return err
		}
	}
	if o.remove {
		return nil
	}
	var failed error
	for _, note := range agent.Notes(s) {
		_, err := fmt.Fprintln(notes, note)
		failed = errors.Join(failed, err)
	}
	return failed
}

// change writes or prints one change.
func (o *agentsOptions) change(c *setup.Change, out io.Writer) error {
	var err error
	switch {
	case !c.Changed():
		_, err = fmt.Fprintf(out, "# %s: nothing to change\n", c.Path)
	case !o.write && c.New == nil:
		_, err = fmt.Fprintf(out, "# %s: to be removed\n", c.Path)
	case !o.write:
		_, err = fmt.Fprintf(out, "# %s\n%s", c.Path, c.New)
	default:
		backup, writeErr := c.Write(time.Now())
		if writeErr != nil {
			return fmt.Errorf("write %s: %w", c.Path, writeErr)
		}
		if backup != "" {
			backup = ", its old text is in " + backup
		}
		_, err = fmt.Fprintf(out, "%s is written%s\n", c.Path, backup)
	}
	return err
}

func (o *agentsOptions) list(out io.Writer) error {
	at, err := places()
	if err != nil {
		return err
	}
	s, err := o.settings()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "AGENT\tPROGRAM\tSET UP\tCONFIGURATION") // told by Flush
	for _, agent := range setup.Agents() {
		program, err := exec.LookPath(agent.Program)
		if err != nil {
			program = "not found"
		}
		state, answer := agent.Look(at, s), "no"
		switch {
		case state.Err != nil:
			answer = "unknown: " + state.Err.Error()
		case state.SetUp:
			answer = "yes"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", agent.Name, program, answer, strings.Join(state.Paths, ", "))
	}
	return w.Flush()
}
