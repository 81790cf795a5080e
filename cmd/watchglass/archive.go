// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/otlp"
	"github.com/watchglass/watchglass/exporters/recall"
)

// sessionSource is who knows of sessions: the daemon, or the journal that it left.
type sessionSource interface {
	// Sessions is every session, Session those with an id, with all that is known of them.
	Sessions(ctx context.Context) ([]event.SessionView, error)
	Session(ctx context.Context, id string) ([]event.SessionView, error)
}

// archive knows of sessions what the journal in a folder tells.
type archive struct{ dir string }

// Sessions implements sessionSource.
func (a archive) Sessions(ctx context.Context) ([]event.SessionView, error) {
	gathered := recall.New()
	if err := a.read(ctx, gathered, journal.Query{Kinds: recall.Claims()}); err != nil {
		return nil, err
	}
	views := gathered.Views()
	for i := range views {
		views[i].Turns, views[i].Decisions = nil, nil
	}
	return views, nil
}

// Session implements sessionSource.
func (a archive) Session(ctx context.Context, id string) ([]event.SessionView, error) {
	gathered := recall.New()
	if err := a.read(ctx, gathered, journal.Query{Kinds: recall.Claims()}); err != nil {
		return nil, err
	}
	looked := map[string]bool{}
	for _, v := range gathered.Views() {
		if (v.ID != id && v.Conversation != id) || looked[v.ID] {
			continue
		}
		looked[v.ID] = true
		if err := a.read(ctx, gathered, journal.Query{Kinds: recall.Facts(), Session: v.ID}); err != nil {
			return nil, err
		}
	}
	var found []event.SessionView
	for _, v := range gathered.Views() {
		if v.ID == id || v.Conversation == id {
			found = append(found, v)
		}
	}
	return found, nil
}

// read adds the events that a query chooses.
func (a archive) read(ctx context.Context, to *recall.Sessions, q journal.Query) error {
	reader, err := journal.OpenReader(a.dir, q)
	if err != nil {
		return err
	}
	defer reader.Close()
	for ctx.Err() == nil {
		e, ok, err := reader.Next()
		if err != nil || !ok {
			return err
		}
		r, err := otlp.Decode(e)
		if err != nil {
			return err
		}
		to.Add(r)
	}
	return fmt.Errorf("read the journal: %w", ctx.Err())
}

// rather asks the daemon, and when none answers, the journal.
type rather struct {
	daemon  sessionSource
	archive archive
	notes   io.Writer
}

// Sessions implements sessionSource.
func (r rather) Sessions(ctx context.Context) ([]event.SessionView, error) {
	views, err := r.daemon.Sessions(ctx)
	if !r.silent(err) {
		return views, err
	}
	return r.archive.Sessions(ctx)
}

// Session implements sessionSource.
func (r rather) Session(ctx context.Context, id string) ([]event.SessionView, error) {
	views, err := r.daemon.Session(ctx, id)
	if !r.silent(err) {
		return views, err
	}
	return r.archive.Session(ctx, id)
}

// silent says whether there is no daemon, but a journal.
func (r rather) silent(err error) bool {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	if reader, err := journal.OpenReader(r.archive.dir, journal.Query{}); err == nil {
		reader.Close()
		_, _ = fmt.Fprintf(r.notes, "watchglass: no daemon answers; this is what the journal %s has\n", r.archive.dir)
		return true
	}
	return false
}
