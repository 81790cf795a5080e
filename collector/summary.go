// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Bounds of a summary: beyond them only numbers grow.
const (
	maxSummaryCommands     = 1024
	maxSummaryDestinations = 1024
	maxSummaryFindings     = 256
	maxSummaryPaths        = 32
	maxSummarySessions     = 16
	maxSummaryCalls        = 4096
	// shown is how many commands and destinations a summary lists.
	shownCommands, shownDestinations = 10, 32
)

// Summarizer is an Exporter that keeps the summary of one sandbox. Its methods may be called from any goroutine.
type Summarizer struct {
	cgroupID uint64

	mu           sync.Mutex
	sum          event.Summary
	commands     map[string]int64
	files        map[event.FileClass]*fileTotals
	destinations map[destinationKey]*event.Destination
	findings     map[string]*event.Finding
	sessions     map[string]*sessionTotals
	order        []*sessionTotals
	calls        int
}

// sessionTotals is a session with the ids of its calls, true once their processes are known.
type sessionTotals struct {
	event.SessionSummary
	calls map[string]bool
}

type fileTotals struct {
	event.FileSummary
	paths map[string]bool
}

type destinationKey struct {
	transport event.Transport
	peer      string
}

// NewSummarizer makes the summary of the sandbox whose cgroup has the id.
func NewSummarizer(cgroupID uint64) *Summarizer {
	return &Summarizer{
		cgroupID: cgroupID, commands: map[string]int64{}, files: map[event.FileClass]*fileTotals{},
		destinations: map[destinationKey]*event.Destination{}, findings: map[string]*event.Finding{},
		sessions: map[string]*sessionTotals{},
	}
}

// Name implements Exporter.
func (*Summarizer) Name() string { return "summary" }

// Shutdown implements Exporter.
func (*Summarizer) Shutdown(context.Context) error { return nil }

// Export implements Exporter.
func (s *Summarizer) Export(_ context.Context, batch []*event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range batch {
		if e.Sandbox != nil && e.Sandbox.CgroupID == s.cgroupID {
			s.add(e)
		}
	}
	return nil
}

func (s *Summarizer) add(e *event.Event) {
	switch payload := e.Payload.(type) {
	case *event.SandboxStart:
		s.sum.Sandbox, s.sum.Started = e.Sandbox.Name, e.Time
	case *event.SandboxStop:
		s.sum.Duration, s.sum.Processes = e.Time.Sub(s.sum.Started), payload.Processes
	case *event.ProcessExec:
		s.sum.Execs++
		s.command(e.Process)
	case *event.ProcessExit:
		if payload.Code != 0 || payload.Signal != 0 {
			s.sum.Failed++
		}
	case *event.FileOpen:
		s.file(payload)
	case *event.NetworkConnect:
		s.connect(payload)
	case *event.NetworkFlow:
		if payload.Inbound {
			return // its peer is no destination
		}
		if d := s.destination(payload.Transport, payload.Peer.String(), payload.PeerName); d != nil {
			d.Scope = event.ScopeOf(payload.Peer.Addr())
			d.Sent += payload.Sent - payload.ToldSent
			d.Received += payload.Received - payload.ToldReceived
		}
	case *event.Finding:
		if _, known := s.findings[payload.ID]; known || len(s.findings) < maxSummaryFindings {
			s.findings[payload.ID] = payload
		} else {
			s.sum.FindingsOmitted++
		}
	case event.Said:
		s.said(payload)
	}
}

// said counts what agents say of their sessions, and what the kernel tells of their calls.
func (s *Summarizer) said(payload event.Said) {
	claim := payload.Said()
	id := cmp.Or(claim.Session, claim.Conversation)
	if claim.Sender != event.SenderOwner || id == "" {
		return
	}
	t := s.sessions[id]
	if t == nil {
		if len(s.sessions) >= maxSummarySessions {
			if _, ends := payload.(*event.SessionEnd); ends {
				s.sum.SessionsOmitted++
			}
			return
		}
		t = &sessionTotals{SessionSummary: event.SessionSummary{ID: id, Agent: claim.Agent}, calls: map[string]bool{}}
		s.sessions[id] = t
		s.order = append(s.order, t)
	}
	switch p := payload.(type) {
	case *event.ToolCall:
		s.call(t, p)
	case *event.Approval:
		switch p.State {
		case event.ApprovalGranted:
			t.Granted++
		case event.ApprovalDenied:
			t.Denied++
		case event.ApprovalRequested, event.ApprovalExpired:
		}
	case *event.ClaimMismatch:
		t.Mismatches++
	case *event.SessionEnd:
		t.Calls = max(t.Calls, p.ToolCalls)
	}
}

func (s *Summarizer) call(t *sessionTotals, p *event.ToolCall) {
	joined, known := t.calls[p.ID]
	if !known && (p.ID == "" || s.calls >= maxSummaryCalls) {
		return // the session's end tells how many there were
	}
	if !known {
		s.calls++
		t.Calls = max(t.Calls, len(t.calls)+1)
	}
	if p.Phase == event.PhaseJoined && !joined {
		t.Joined++
	}
	t.calls[p.ID] = joined || p.Phase == event.PhaseJoined
}

func (s *Summarizer) command(p *event.Process) {
	if p == nil {
		return
	}
	if _, known := s.commands[p.Name]; known || len(s.commands) < maxSummaryCommands {
		s.commands[p.Name]++
	} else {
		s.sum.CommandsOmitted++
	}
}

func (s *Summarizer) file(f *event.FileOpen) {
	totals := s.files[f.Class]
	if totals == nil {
		totals = &fileTotals{FileSummary: event.FileSummary{Class: f.Class}, paths: map[string]bool{}}
		s.files[f.Class] = totals
	}
	if f.Error != 0 {
		totals.Failed++
		return
	}
	totals.Opens += int(f.Times())
	if f.Access&event.AccessWrite != 0 {
		totals.Written += int(f.Times())
	}
	if f.Class != event.FileClassSecret && f.Class != event.FileClassConfig || totals.paths[f.Path] {
		return
	}
	if len(totals.paths) >= maxSummaryPaths {
		totals.PathsOmitted++
		return
	}
	totals.paths[f.Path] = true
	totals.Paths = append(totals.Paths, f.Path)
}

func (s *Summarizer) connect(n *event.NetworkConnect) {
	d := s.destination(n.Transport, n.Peer.String(), n.PeerName)
	if d == nil {
		return
	}
	d.Scope = event.ScopeOf(n.Peer.Addr())
	d.Connects++
	if n.Error != 0 {
		d.Failed++
		d.Error = n.Error.Name()
	}
}

func (s *Summarizer) destination(tr event.Transport, peer, name string) *event.Destination {
	key := destinationKey{tr, peer}
	d := s.destinations[key]
	if d == nil {
		if len(s.destinations) >= maxSummaryDestinations {
			s.sum.DestinationsOmitted++
			return nil
		}
		d = &event.Destination{Transport: tr, Peer: peer}
		s.destinations[key] = d
	}
	if name != "" {
		d.Name = name
	}
	return d
}

// Summary is what was seen so far. What outlived the sandbox and what was lost is for the caller to
// add: the events do not say.
func (s *Summarizer) Summary() event.Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.sum
	if sum.Duration == 0 && !sum.Started.IsZero() {
		sum.Duration = time.Since(sum.Started)
	}
	for name, n := range s.commands {
		sum.Commands = append(sum.Commands, event.Count{Name: name, N: n})
	}
	slices.SortFunc(sum.Commands, func(a, b event.Count) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name))
	})
	sum.Commands, sum.CommandsOmitted = shorten(sum.Commands, shownCommands, sum.CommandsOmitted)
	for _, t := range s.order {
		sum.Sessions = append(sum.Sessions, t.SessionSummary)
	}
	sum.Files = s.fileSummaries()
	for _, d := range s.destinations {
		sum.Destinations = append(sum.Destinations, *d)
	}
	slices.SortFunc(sum.Destinations, func(a, b event.Destination) int {
		return cmp.Or(cmp.Compare(b.Sent+b.Received, a.Sent+a.Received), cmp.Compare(b.Connects, a.Connects),
			cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.Transport, b.Transport))
	})
	sum.Destinations, sum.DestinationsOmitted = shorten(sum.Destinations, shownDestinations, sum.DestinationsOmitted)
	sum.Findings = slices.SortedFunc(maps.Values(s.findings), func(a, b *event.Finding) int {
		return cmp.Or(cmp.Compare(b.Severity(), a.Severity()), cmp.Compare(a.Rule.ID, b.Rule.ID), cmp.Compare(a.Title, b.Title))
	})
	return sum
}

// fileSummaries is the totals in the order of the classes' importance.
func (s *Summarizer) fileSummaries() []event.FileSummary {
	order := []event.FileClass{
		event.FileClassSecret, event.FileClassConfig, event.FileClassSource, event.FileClassTmp,
		event.FileClassOther, event.FileClassSystem, event.FileClassProc, "",
	}
	var files []event.FileSummary
	for _, class := range order {
		if totals := s.files[class]; totals != nil {
			f := totals.FileSummary
			f.Paths = slices.Clone(f.Paths)
			files = append(files, f)
		}
	}
	return files
}

func shorten[T any](list []T, limit, omitted int) ([]T, int) {
	if len(list) <= limit {
		return list, omitted
	}
	return list[:limit], omitted + len(list) - limit
}
