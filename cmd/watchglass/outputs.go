// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/json"
	"github.com/watchglass/watchglass/exporters/text"
)

// named is an exporter under another name, so that two of a kind can be told apart.
type named struct {
	collector.Exporter
	name string
}

// Name implements collector.Exporter.
func (n named) Name() string { return n.name }

// fileText is the timeline in a file that is closed with it.
type fileText struct {
	*text.Exporter
	file *os.File
}

// Shutdown implements collector.Exporter.
func (f fileText) Shutdown(ctx context.Context) error {
	return errors.Join(f.Exporter.Shutdown(ctx), f.file.Close())
}

// openText makes an exporter of the timeline to a file. Colour is used on terminals only.
func openText(path string, flags int, cfg text.Config) (collector.Exporter, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the file for the timeline: %w", err)
	}
	cfg.Colour = text.Colour(file, os.Getenv("NO_COLOR"))
	exporter, err := text.New(file, cfg)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return fileText{exporter, file}, nil
}

// outputs is the exporters that the flags of `watchglass run` ask for. Files wait for the disk, so that
// they are complete; a terminal that stands still must not hold the session up.
func (o *runOptions) outputs(resource []event.Attribute) ([]collector.ExporterSettings, error) {
	var list []collector.ExporterSettings
	if o.json == "-" {
		return nil, errors.New(`--json -: standard output is the command's; open another descriptor, as in: --json /dev/fd/3 3>events.jsonl`)
	}
	if o.json != "" {
		exporter, err := json.Open(json.Config{Path: o.json}, resource)
		if err != nil {
			return nil, err
		}
		list = append(list, collector.ExporterSettings{Exporter: exporter, WhenFull: collector.Block})
	}
	if o.timeline != "" {
		exporter, err := openText(o.timeline, os.O_TRUNC, text.DefaultConfig())
		if err != nil {
			return nil, err
		}
		list = append(list, collector.ExporterSettings{Exporter: exporter, WhenFull: collector.Block})
	}
	if o.live != "" {
		exporter, err := o.openLive()
		if err != nil {
			return nil, err
		}
		list = append(list, collector.ExporterSettings{Exporter: named{exporter, "live"}})
	}
	return list, nil
}

func (o *runOptions) openLive() (collector.Exporter, error) {
	if o.live != liveStderr {
		return openText(o.live, os.O_APPEND|noControllingTerminal, text.DefaultConfig())
	}
	cfg := text.DefaultConfig()
	cfg.Colour = text.Colour(os.Stderr, os.Getenv("NO_COLOR"))
	return text.New(os.Stderr, cfg)
}

// outputs is the exporters of `watchglass collect` that are files.
func (c *exportersConfig) outputs(resource []event.Attribute) ([]collector.ExporterSettings, error) {
	var list []collector.ExporterSettings
	if c.JSON.Enabled {
		exporter, err := json.Open(c.JSON.Config, resource)
		if err != nil {
			return nil, err
		}
		list = append(list, collector.ExporterSettings{Exporter: exporter})
	}
	if !c.Text.Enabled {
		return list, nil
	}
	if c.Text.Path != "-" {
		exporter, err := openText(c.Text.Path, os.O_APPEND, c.Text.Config)
		if err != nil {
			return nil, err
		}
		return append(list, collector.ExporterSettings{Exporter: exporter}), nil
	}
	cfg := c.Text.Config
	cfg.Colour = cfg.Colour || text.Colour(os.Stdout, os.Getenv("NO_COLOR"))
	exporter, err := text.New(os.Stdout, cfg)
	if err != nil {
		return nil, err
	}
	return append(list, collector.ExporterSettings{Exporter: exporter}), nil
}
