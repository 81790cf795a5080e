// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// postureOptions is which sandbox is looked at.
type postureOptions struct {
	ask             askFlags
	pid             uint32
	cgroup, session string
}

func newPosture() *cobra.Command {
	var o postureOptions
	cmd := &cobra.Command{
		Use:   "posture (--pid PID | --cgroup PATH | --session SESSION)",
		Short: "Say what the set-up of a running sandbox leaves open, and what to do about it",
		Long: `Say what the set-up of a running sandbox leaves open, and what to do about it:
user, capabilities, seccomp, namespaces, mounts, sockets of container runtimes,
devices, network, limits. All of it is read from the kernel, from outside.

The exit code is 1 when something of medium severity or above is open.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.ask.add(cmd)
	cmd.Flags().Uint32Var(&o.pid, "pid", 0, "the sandbox of this process")
	cmd.Flags().StringVar(&o.cgroup, "cgroup", "", "the sandbox whose cgroup has this `path` below the cgroup2 mount")
	cmd.Flags().StringVar(&o.session, "session", "", "the sandbox of this `session` of the daemon's")
	cmd.MarkFlagsOneRequired("pid", "cgroup", "session")
	cmd.MarkFlagsMutuallyExclusive("pid", "cgroup", "session")
	return cmd
}

func (o *postureOptions) run(cmd *cobra.Command) error {
	if err := requireRoot(); err != nil {
		return err
	}
	mount, err := sandbox.FindMount()
	if err != nil {
		return withRemedy(err)
	}
	pid, err := o.process(cmd.Context(), mount)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(o.ask.config)
	if err != nil {
		return err
	}
	examine, err := newExaminer(mount, func() bool { return len(cfg.Policy.Network.Allow) > 0 })
	if err != nil {
		return err
	}
	p, err := examine(pid, nil)
	if err != nil {
		return err
	}
	return o.print(cmd, pid, p)
}

// process is the process that is looked at.
func (o *postureOptions) process(ctx context.Context, mount sandbox.Mount) (uint32, error) {
	switch {
	case o.pid != 0:
		return o.pid, nil
	case o.cgroup != "":
		return lastProcess(filepath.Join(mount.Dir, filepath.Clean("/"+o.cgroup)))
	}
	client, err := o.ask.client()
	if err != nil {
		return 0, err
	}
	sessions, err := findSession(ctx, client, o.session)
	if err != nil {
		return 0, err
	}
	for i := range sessions {
		if sessions[i].PID != 0 {
			return sessions[i].PID, nil
		}
	}
	return 0, fmt.Errorf("session %s has ended: there is no process to look at", exporters.Printable(o.session))
}

// lastProcess is the youngest process of a cgroup or of those below it.
func lastProcess(dir string) (uint32, error) {
	var last uint32
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Name() != "cgroup.procs" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.ParseUint(strings.TrimSpace(line), 10, 32); err == nil {
				last = max(last, uint32(pid))
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("look for the processes of the cgroup: %w", err)
	case last == 0:
		return 0, errors.New("the cgroup has no processes")
	}
	return last, nil
}

func (o *postureOptions) print(cmd *cobra.Command, pid uint32, p *event.SandboxPosture) error {
	if o.ask.json {
		return printPosture(cmd, pid, p)
	}
	grave := false
	var out bytes.Buffer
	fmt.Fprintf(&out, "process %d, user %d\n", pid, p.UserID)
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, w := range p.Weaknesses {
		advice := detectors.Advise(p, w)
		grave = grave || advice.Level >= event.SeverityMedium
		what := advice.What
		if len(advice.Objects) > 0 && w != event.WeakNamespaces {
			what += ": " + strings.Join(advice.Objects, " ")
		}
		fmt.Fprintf(table, "%s\t%s\n\t%s\n\tRemedy: %s\n", advice.Level.FindingName(), exporters.Printable(what), advice.Why, advice.Remedy) //nolint:errcheck // into memory
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the posture: %w", err)
	}
	if len(p.Weaknesses) == 0 {
		out.WriteString("nothing is left open\n")
	}
	return printed(cmd, out.String(), grave)
}

// weaknessDocument is a weakness in JSON.
type weaknessDocument struct {
	Weakness event.Weakness `json:"weakness"`
	Severity string         `json:"severity"`
	What     string         `json:"what"`
	Why      string         `json:"why"`
	Remedy   string         `json:"remedy"`
	Objects  []string       `json:"objects,omitempty"`
}

// printPosture prints a posture as JSON: the attributes under the names that they have in events, and what follows.
func printPosture(cmd *cobra.Command, pid uint32, p *event.SandboxPosture) error {
	grave := false
	document := struct {
		PID        uint32             `json:"pid"`
		Attributes map[event.Key]any  `json:"attributes"`
		Weaknesses []weaknessDocument `json:"weaknesses"`
	}{PID: pid, Attributes: map[event.Key]any{}, Weaknesses: []weaknessDocument{}}
	for _, a := range p.AppendAttributes(nil) {
		switch a.Value.Kind() {
		case event.ValueInt:
			document.Attributes[a.Key] = a.Value.AsInt()
		case event.ValueBool:
			document.Attributes[a.Key] = a.Value.AsBool()
		case event.ValueStrings:
			document.Attributes[a.Key] = a.Value.AsStrings()
		case event.ValueString, event.ValueDouble, event.ValueMap, event.ValueInvalid:
			document.Attributes[a.Key] = a.Value.Text()
		}
	}
	for _, w := range p.Weaknesses {
		advice := detectors.Advise(p, w)
		grave = grave || advice.Level >= event.SeverityMedium
		document.Weaknesses = append(document.Weaknesses, weaknessDocument{
			Weakness: w, Severity: advice.Level.FindingName(), What: advice.What, Why: advice.Why, Remedy: advice.Remedy, Objects: advice.Objects,
		})
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		return fmt.Errorf("encode the posture: %w", err)
	}
	return printed(cmd, out.String(), grave)
}

// newExaminer makes what looks at the posture of sandboxes. policy says whether the network has one. With a nil
// sandbox the process's own cgroup tells the limits.
func newExaminer(mount sandbox.Mount, policy func() bool) (func(uint32, *event.Sandbox) (*event.SandboxPosture, error), error) {
	controllers, err := sandbox.FindControllers()
	if err != nil {
		return nil, err
	}
	meter := sandbox.NewMeter(mount, controllers)
	return func(pid uint32, s *event.Sandbox) (*event.SandboxPosture, error) {
		p, err := sandbox.Examine(pid)
		if err != nil {
			return nil, err
		}
		if s == nil {
			s = sandbox.CgroupOf(pid, mount)
		}
		if s != nil {
			if usage, err := meter.Read(s); err == nil {
				if usage.Tasks != nil {
					p.PidsLimit = usage.Tasks.Limit
				}
				if usage.Memory != nil {
					p.MemoryLimit = usage.Memory.Limit
				}
			}
		}
		p.Assess(policy())
		return p, nil
	}, nil
}
