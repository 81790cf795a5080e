// SPDX-License-Identifier: Apache-2.0

// Command watchglass watches AI coding agents at work: as a wrapper around one session (run), as a
// daemon (collect), and says what this machine can do (check).
//
// It owns flags, environment variables, signals, exit codes and the wiring of the parts to each other.
// It must not look into events, nor do anything that a part could do.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(execute(os.Args[1:])) }

// exitError ends the program with an exit code. An err of nil has been told already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// execute runs the program with these arguments and returns its exit code.
func execute(args []string) int {
	if isHook(args) {
		runHook(args[1:], os.Stdin)
		return 0
	}
	root := newRoot()
	root.SetArgs(args)
	ran, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	code := 1
	if ran.Name() == runName {
		code = exitOwnFailure
	}
	exit := new(exitError)
	told := false
	if errors.As(err, &exit) {
		code, told = exit.code, exit.err == nil
	}
	if !told {
		fmt.Fprintf(os.Stderr, "watchglass: %v\n", err)
	}
	return code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "watchglass",
		Short: "Watch AI coding agents at work, from the kernel's side",
		Long: `Watchglass sees what a coding agent and everything it starts really do: programs,
files, connections, system calls. Run it around one session, or as a daemon over
all sandboxes of a machine.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newRun(), newCollect(), newCheck(), newRules(), newPosture(), newVersion(), newHook(),
		newSessions(), newShow(), newAgents(), newEvents(), newVerify(), newJournal())
	return root
}
