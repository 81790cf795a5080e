// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log/slog"
)

// newLogger makes the log. The level can be changed later.
func newLogger(cfg *logConfig, w io.Writer) (*slog.Logger, *slog.LevelVar, error) {
	level, err := cfg.level()
	if err != nil {
		return nil, nil, err
	}
	current := new(slog.LevelVar)
	current.Set(level)
	options := &slog.HandlerOptions{Level: current}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), current, nil
	}
	return slog.New(slog.NewTextHandler(w, options)), current, nil
}
