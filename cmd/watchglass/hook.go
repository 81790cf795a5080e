// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/collector/agent/hook"
)

const (
	hookName = "hook"
	// hookSocketVariable says where the collector of a session listens; `watchglass run` sets it.
	hookSocketVariable = "WATCHGLASS_HOOK_SOCKET"
	// hookTime bounds how long a hook holds its agent up, whatever happens.
	hookTime = 200 * time.Millisecond
)

func newHook() *cobra.Command {
	return &cobra.Command{
		Use:   hookName + " [--agent NAME] [--socket PATH] [--debug]",
		Short: "Hand what an agent tells its hooks to the collector",
		Long: `Hand what an agent tells its hooks to the collector. Agents call it, as
` + "`watchglass agents setup`" + ` has them do; people need not.

It reads the hook's JSON from standard input and says it to the collector's socket:
the one that ` + hookSocketVariable + ` names, else --socket, else
` + hook.DefaultPath + `.

It never gets in the agent's way: it prints nothing, exits with 0 whatever happens
and within ` + hookTime.String() + `. With --debug it says on standard error what happened.`,
		DisableFlagParsing: true, // a hook that is set up wrongly must not fail either
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			runHook(args, os.Stdin)
			return nil
		},
	}
}

// isHook says whether the arguments are those of a hook. It is asked before anything else is made: an agent waits.
func isHook(args []string) bool {
	return len(args) > 0 && args[0] == hookName && (len(args) < 2 || args[1] != "--help" && args[1] != "-h")
}

// runHook hands one hook's input to the collector. It returns, or ends the process with 0, within hookTime.
func runHook(args []string, input io.Reader) {
	deadline := time.Now().Add(hookTime)
	// A read of standard input cannot be cut short in any other way.
	time.AfterFunc(hookTime, func() { os.Exit(0) })
	// Agents take a program that ends with 2, as one that panics does, for a hook that forbids.
	defer func() { _ = recover() }()
	o := hookFlags(args)
	socket := cmp.Or(os.Getenv(hookSocketVariable), o.socket, hook.DefaultPath)
	status, err := hook.Send(socket, o.agent, input, deadline)
	switch {
	case !o.debug:
	case err != nil:
		fmt.Fprintf(os.Stderr, "watchglass hook: %s: %v\n", socket, err)
	default:
		fmt.Fprintf(os.Stderr, "watchglass hook: %s: %v\n", socket, status)
	}
}

// hookOptions is the flags of `watchglass hook`.
type hookOptions struct {
	agent, socket string
	debug         bool
}

// hookFlags reads the flags, and passes over whatever it does not know.
func hookFlags(args []string) hookOptions {
	var o hookOptions
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if name == "debug" {
			o.debug = true
			continue
		}
		if !given && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			i++
			value = args[i]
		}
		switch name {
		case "agent":
			o.agent = value
		case "socket":
			o.socket = value
		}
	}
	return o
}
