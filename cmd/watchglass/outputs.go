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
	"github.com/watchglass/watchglass/exporters/lines"
	"github.com/watchglass/watchglass/exporters/otlp"
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

// collectOutputs is the files that `watchglass collect` writes.
type collectOutputs struct {
	// fromJournal has a cursor each, and goes on after a restart where it stopped; fromMemory is the rest.
	fromJournal []collector.DestinationSettings
	fromMemory  []collector.ExporterSettings
}

// The names of the outputs that are files, which are their cursors' too.
const (
	jsonName = "json"
	textName = "text"
)

// outputs is the exporters of `watchglass collect` that are files: fed from the journal where there is one. A
// terminal is fed from memory all the same: what it showed before a restart is gone, and who looks at one wants to see
// what happens now.
func (c *exportersConfig) outputs(journaled bool, resource []event.Attribute) (collectOutputs, error) {
	var list collectOutputs
	if c.JSON.Enabled {
		if err := c.addJSON(&list, journaled, resource); err != nil {
			return list, err
		}
	}
	if c.Text.Enabled {
		if err := c.addText(&list, journaled); err != nil {
			return list, err
		}
	}
	return list, nil
}

func (c *exportersConfig) addJSON(list *collectOutputs, journaled bool, resource []event.Attribute) error {
	if !journaled {
		exporter, err := json.Open(c.JSON.Config, resource)
		if err != nil {
			return err
		}
		list.fromMemory = append(list.fromMemory, collector.ExporterSettings{Exporter: exporter})
		return nil
	}
	d, err := lines.Open(lines.Settings{
		Name: jsonName, Path: c.JSON.Path, Keep: c.JSON.Append, Decode: new(otlp.Decoder).Decode, Format: &json.Lines{},
	})
	if err != nil {
		return err
	}
	list.fromJournal = append(list.fromJournal, collector.DestinationSettings{Destination: d})
	return nil
}

func (c *exportersConfig) addText(list *collectOutputs, journaled bool) error {
	cfg, standard := c.Text.Config, c.Text.Path == "-"
	if standard {
		cfg.Colour = cfg.Colour || text.Colour(os.Stdout, os.Getenv("NO_COLOR"))
	}
	if journaled && !c.Text.terminal() {
		return c.addTimeline(list, cfg)
	}
	if !standard {
		exporter, err := openText(c.Text.Path, os.O_APPEND, cfg)
		if err != nil {
			return err
		}
		list.fromMemory = append(list.fromMemory, collector.ExporterSettings{Exporter: exporter})
		return nil
	}
	exporter, err := text.New(os.Stdout, cfg)
	if err != nil {
		return err
	}
	list.fromMemory = append(list.fromMemory, collector.ExporterSettings{Exporter: exporter})
	return nil
}

// terminal says whether the timeline goes to one.
func (c *textConfig) terminal() bool {
	if c.Path == "-" {
		return text.Colour(os.Stdout, "")
	}
	info, err := os.Stat(c.Path)
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// addTimeline adds the timeline from the journal.
func (c *exportersConfig) addTimeline(list *collectOutputs, cfg text.Config) error {
	settings := lines.Settings{Name: textName, Path: c.Text.Path, Keep: true, Decode: new(otlp.Decoder).Decode}
	if c.Text.Path == "-" {
		settings.File = os.Stdout
	} else {
		cfg.Colour = false // as the configuration says: never in files
	}
	format, err := text.NewTimeline(cfg)
	if err != nil {
		return err
	}
	settings.Format = format
	d, err := lines.Open(settings)
	if err != nil {
		return err
	}
	list.fromJournal = append(list.fromJournal, collector.DestinationSettings{Destination: d, Wants: format.Wants()})
	return nil
}
