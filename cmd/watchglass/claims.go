// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/hook"
	"github.com/watchglass/watchglass/event"
)

// claimsConfig is how agents tell what they do.
type claimsConfig struct {
	Hooks hooksConfig     `yaml:"hooks"`
	OTLP  telemetryConfig `yaml:"otlp"`
}

type hooksConfig struct {
	Enabled     bool `yaml:"enabled"`
	hook.Config `yaml:",inline"`
	// Prompts and Results say whether the text of prompts and what tools answered are told.
	Prompts bool `yaml:"prompts"`
	Results bool `yaml:"results"`
}

func (c *claimsConfig) validate() error {
	var errs []error
	if c.Hooks.Enabled {
		errs = append(errs, prefixed("claims.hooks.", c.Hooks.Validate()))
	}
	if c.OTLP.Enabled {
		errs = append(errs, prefixed("claims.otlp.", c.OTLP.Validate()))
	}
	return errors.Join(errs...)
}

// forSession is the socket of one session of `watchglass run`: in a directory of its own, so that it can be mounted
// into a sandbox, and that sessions at the same time have one each.
func (c hooksConfig) forSession() hooksConfig {
	if c.Path != "" {
		c.Path = filepath.Join(sessionDirectory(), filepath.Base(c.Path))
	}
	return c
}

// sessionDirectory is where one session of `watchglass run` has its sockets.
func sessionDirectory() string {
	return filepath.Join("/run/watchglass", fmt.Sprintf("run-%d", os.Getpid()))
}

// openHooks makes the socket of the hooks, where one is wanted.
func (w *watch) openHooks(cfg hooksConfig) error {
	if !cfg.Enabled || cfg.Path == "" {
		return nil
	}
	var err error
	w.hooks, err = hook.Open(cfg.Config, hook.Settings{
		Sandbox: w.sandboxOf,
		Claim:   w.pipeline.Claim, Logger: w.log,
		Options: agent.HookOptions{Prompts: cfg.Prompts, Results: cfg.Results},
	})
	return err
}

// hookStats is the account of what agents told their hooks.
func (w *watch) hookStats() []event.Count {
	if w.hooks == nil {
		return nil
	}
	s := w.hooks.Stats()
	return []event.Count{
		{Name: "taken", N: int64(s.Taken)},
		{Name: "ignored", N: int64(s.Ignored)},
		{Name: "malformed", N: int64(s.Malformed)},
		{Name: "late", N: int64(s.Late)},
		{Name: "refused", N: int64(s.Refused)},
		{Name: "unattributed", N: int64(s.Unattributed)},
	}
}

// hear serves what agents speak to, until stopHearing.
func (w *watch) hear() {
	ctx, cancel := context.WithCancel(context.Background())
	var hearing sync.WaitGroup
	run := func(run func(context.Context) error) {
		hearing.Go(func() {
			if err := run(ctx); err != nil {
				w.failed <- err
			}
		})
	}
	if w.hooks != nil {
		run(w.hooks.Run)
	}
	if w.receiver != nil {
		run(w.receiver.Run)
	}
	w.stopHearing = func() {
		cancel()
		hearing.Wait()
	}
}

// withVariable is an environment in which a variable has a value, and no other one.
func withVariable(env []string, name, value string) []string {
	result := make([]string, 0, len(env)+1)
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			result = append(result, v)
		}
	}
	return append(result, name+"="+value)
}
