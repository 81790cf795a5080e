// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/collector/control"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/text"
)

// askFlags is where and how sessions are asked for.
type askFlags struct {
	config, socket, journal string
	json                    bool
}

func (f *askFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", "", "read where the daemon's socket is from this `file`")
	cmd.Flags().StringVar(&f.socket, "socket", "", "ask the daemon at this `socket`")
	cmd.Flags().StringVar(&f.journal, "journal", "", "look in the journal in this `folder` instead of asking the daemon")
	cmd.Flags().BoolVar(&f.json, "json", false, "write JSON")
}

// client is whom to ask.
func (f *askFlags) client() (sessionSource, error) {
	if f.journal != "" {
		return archive{f.journal}, nil
	}
	if f.socket != "" {
		return control.NewClient(f.socket), nil
	}
	cfg, err := loadConfig(f.config)
	if err != nil {
		return nil, err
	}
	if !cfg.Control.Enabled {
		return nil, errors.New("control.enabled is false: the daemon answers no questions; --journal looks in its journal")
	}
	return rather{control.NewClient(cfg.Control.Path), archive{cfg.Journal.Dir}, os.Stderr}, nil
}

func newSessions() *cobra.Command {
	var flags askFlags
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List the agents' sessions that the daemon knows",
		Long: `List the agents' sessions that the daemon knows: those that go on, and those that
ended as long as there is room to remember them. When no daemon answers, or with
--journal, those of which the journal tells are listed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := flags.client()
			if err != nil {
				return err
			}
			sessions, err := client.Sessions(cmd.Context())
			if err != nil {
				return noDaemon(err)
			}
			return flags.write(cmd.OutOrStdout(), sessions, func(w io.Writer) error {
				return text.WriteSessions(w, terminalText(), sessions)
			})
		},
	}
	flags.add(cmd)
	return cmd
}

func newShow() *cobra.Command {
	var flags askFlags
	cmd := &cobra.Command{
		Use:   "show SESSION",
		Short: "Show one session: its turns, tool calls, approvals, processes, files, connections",
		Long: `Show one session as a tree: its turns, their tool calls with the approvals that they
got, and what the processes of each did. SESSION is an id, the agent's conversation,
or the beginning of either. When no daemon answers, or with --journal, it is put
together from the journal.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := flags.client()
			if err != nil {
				return err
			}
			sessions, err := findSession(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			return flags.write(cmd.OutOrStdout(), sessions, func(w io.Writer) error {
				for i := range sessions {
					if err := text.WriteSession(w, terminalText(), &sessions[i]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	flags.add(cmd)
	return cmd
}

// findSession is the sessions with an id, or with the only id that begins so.
func findSession(ctx context.Context, client sessionSource, name string) ([]event.SessionView, error) {
	if name == "" {
		return nil, errors.New("the name of a session is empty: see watchglass sessions")
	}
	sessions, err := client.Session(ctx, name)
	if err != nil {
		return nil, noDaemon(err)
	}
	if len(sessions) > 0 {
		return sessions, nil
	}
	all, err := client.Sessions(ctx)
	if err != nil {
		return nil, noDaemon(err)
	}
	found := ""
	for i := range all {
		v := &all[i]
		if !strings.HasPrefix(v.ID, name) && !strings.HasPrefix(v.Conversation, name) || v.ID == found {
			continue
		}
		if found != "" {
			return nil, fmt.Errorf("more than one session begins with %q", name)
		}
		found = v.ID
	}
	if found == "" {
		return nil, fmt.Errorf("there is no session %q: see watchglass sessions", name)
	}
	return client.Session(ctx, found)
}

// noDaemon says what to do where nobody answers.
func noDaemon(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no daemon answers (is watchglass collect running, with this configuration?): %w", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("only root and the daemon's user may ask it: %w", err)
	}
	return err
}

// terminalText is text for standard output, in colour where that is wanted.
func terminalText() text.Config {
	return text.Config{Colour: text.Colour(os.Stdout, os.Getenv("NO_COLOR"))}
}

// write writes sessions as JSON, or as a function does.
func (f *askFlags) write(w io.Writer, sessions []event.SessionView, plain func(io.Writer) error) error {
	if !f.json {
		return plain(w)
	}
	encoded, err := json.MarshalIndent(map[string]any{"sessions": sessions}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the sessions: %w", err)
	}
	if _, err := w.Write(append(asciiJSON(encoded), '\n')); err != nil {
		return fmt.Errorf("write the sessions: %w", err)
	}
	return nil
}

// asciiJSON escapes all that is not ASCII, and DEL: a terminal may do something on such a character.
func asciiJSON(encoded []byte) []byte {
	const del = 0x7f
	out := make([]byte, 0, len(encoded))
	for len(encoded) > 0 {
		r, size := utf8.DecodeRune(encoded)
		if r < del {
			out = append(out, encoded[0])
		} else if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		} else {
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		encoded = encoded[size:]
	}
	return out
}

// openControl makes the socket on which the daemon is asked, where one is wanted.
func (w *watch) openControl(cfg control.Config) error {
	if !cfg.Enabled {
		return nil
	}
	var err error
	w.control, err = control.Open(cfg, control.Settings{Source: w.pipeline, Logger: w.log})
	return err
}
