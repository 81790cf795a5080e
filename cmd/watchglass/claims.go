// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/hook"
)

// claimsConfig is how agents tell what they do.
type claimsConfig struct {
	Hooks hooksConfig `yaml:"hooks"`
}

type hooksConfig struct {
	Enabled     bool `yaml:"enabled"`
	hook.Config `yaml:",inline"`
	// Prompts and Results say whether the text of prompts and what tools answered are told.
	Prompts bool `yaml:"prompts"`
	Results bool `yaml:"results"`
}

func (c *claimsConfig) validate() error {
	if !c.Hooks.Enabled {
		return nil
	}
	return prefixed("claims.hooks.", c.Hooks.Validate())
}

// forSession is the socket of one session of `watchglass run`: in a directory of its own, so that it can be mounted
// into a sandbox, and that sessions at the same time have one each.
func (c hooksConfig) forSession() hooksConfig {
	if c.Path != "" {
		c.Path = filepath.Join("/run/watchglass", fmt.Sprintf("run-%d", os.Getpid()), filepath.Base(c.Path))
	}
	return c
}

// openHooks makes the socket of the hooks, where one is wanted.
func (w *watch) openHooks(cfg hooksConfig) error {
	if !cfg.Enabled || cfg.Path == "" {
		return nil
	}
	var err error
	w.hooks, err = hook.Open(cfg.Config, hook.Settings{
		Sandbox: func(pid uint32) uint64 {
			if s := w.registry.Of(pid); s != nil {
				return s.CgroupID
			}
			return 0
		},
		Claim: w.pipeline.Claim, Logger: w.log,
		Options: agent.HookOptions{Prompts: cfg.Prompts, Results: cfg.Results},
	})
	return err
}

// hear serves what agents say through, until stopHearing.
func (w *watch) hear() {
	if w.hooks == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.stopHearing = func() {
		cancel()
		<-done
	}
	go func() {
		defer close(done)
		if err := w.hooks.Run(ctx); err != nil {
			w.failed <- err
		}
	}()
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
