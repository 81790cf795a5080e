// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/internal/replace"
)

// saveInterval is how often what was learned is written, if anything was.
const saveInterval = time.Minute

// baselines is the file that keeps what is usual, "" for none.
func (c *config) baselines() string {
	if path := c.Detectors.Baselines.Path; path != "" || !c.Journal.Enabled {
		return path
	}
	return filepath.Join(filepath.Dir(filepath.Clean(c.Journal.Dir)), "baselines")
}

// habits keeps what the detectors learned in a file, which several collectors may share: each puts what it learned on
// top of what the file holds by then.
type habits struct {
	log   *slog.Logger
	usual *detectors.Baselines
	path  string
}

// open reads the file. That it cannot be read, or that it is damaged, is no reason not to watch.
func (h *habits) open() {
	if h.path == "" {
		return
	}
	err := os.MkdirAll(filepath.Dir(h.path), 0o700)
	if err == nil {
		var unlock func()
		if unlock, err = h.lock(); err == nil {
			err = h.read()
			unlock()
		}
	}
	if err != nil {
		h.log.Warn("what is usual is learned in memory only", "error", err)
		h.path = ""
	}
}

// read takes over what the file holds, if there is one.
func (h *habits) read() error {
	f, err := os.Open(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the baselines: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	err = h.usual.Restore(f)
	if !errors.Is(err, detectors.ErrBaselines) {
		return err
	}
	aside := h.path + ".damaged"
	h.log.Warn("the baselines cannot be used: what is usual is learned anew", "file", h.path, "reason", err, "kept_as", aside)
	if err := os.Rename(h.path, aside); err != nil {
		return fmt.Errorf("put the damaged baselines aside: %w", err)
	}
	return nil
}

// run writes what was learned now and then until ctx ends.
func (h *habits) run(ctx context.Context) error {
	ticker := time.NewTicker(saveInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := h.save(); err != nil {
				h.log.Warn("what was learned is not kept over a restart", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// save writes what was learned and is not in the file. Whoever reads it finds the old one or the new one, whole.
func (h *habits) save() error {
	if h.path == "" || !h.usual.Unsaved() {
		return nil
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.read(); err != nil {
		return err
	}
	var text bytes.Buffer
	last, err := h.usual.Encode(&text)
	if err != nil {
		return err //nolint:wrapcheck // it says what it did
	}
	if err := replace.File(h.path, text.Bytes(), 0o600); err != nil { // readable by nobody else
		return fmt.Errorf("write the baselines: %w", err)
	}
	h.usual.Saved(last)
	return nil
}

// lock keeps other collectors from the file until unlock.
func (h *habits) lock() (unlock func(), err error) {
	f, err := os.OpenFile(h.path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the baselines: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil { //nolint:gosec // a descriptor
		return nil, errors.Join(fmt.Errorf("lock the baselines: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
