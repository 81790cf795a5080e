// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/peer"
	"github.com/watchglass/watchglass/collector/unixsocket"
)

func (c *Config) mode() (fs.FileMode, error) {
	mode, err := strconv.ParseUint(c.Mode, 8, 32)
	if err != nil || mode&^0o777 != 0 {
		return 0, fmt.Errorf("mode: %q is not a file's mode in octal, such as 0666", c.Mode)
	}
	return fs.FileMode(mode), nil
}

// Server listens for hooks.
type Server struct {
	settings Settings
	listener *net.UnixListener
	path     string
	limits   *limits
	open     sync.WaitGroup

	taken, ignored, malformed, late, refused, unattributed atomic.Uint64
}

// Open makes the socket. Connections wait in it until Run.
func Open(cfg Config, s Settings) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	mode, err := cfg.mode()
	if err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	listener, err := unixsocket.Listen(cfg.Path, mode)
	if err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	return &Server{settings: s, listener: listener, path: cfg.Path, limits: newLimits(cfg.Rate, cfg.Burst)}, nil
}

// Path is where the socket is.
func (s *Server) Path() string { return s.path }

// Stats is what came so far. From any goroutine.
func (s *Server) Stats() Stats {
	return Stats{
		Taken: s.taken.Load(), Ignored: s.ignored.Load(), Malformed: s.malformed.Load(),
		Late: s.late.Load(), Refused: s.refused.Load(), Unattributed: s.unattributed.Load(),
	}
}

// Run serves until ctx ends, or until the socket fails.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	defer stop()
	defer s.open.Wait()
	for {
		connection, err := s.listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = connection.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
			s.settings.Logger.Warn("no hook is heard for a moment", "error", err)
			time.Sleep(frameTimeout) // others give descriptors back; hooks give up by themselves
		case err != nil:
			return fmt.Errorf("hooks: accept: %w", err)
		default:
			s.accept(connection)
		}
	}
}

// Close removes the socket. It is for a server that was not run, too.
func (s *Server) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("hooks: %w", err)
	}
	return nil
}

// accept finds out who connects and serves it, if its sandbox may speak. Finding out takes some microseconds, and
// is done before anything is read: one sandbox that floods the socket takes nothing from the others but that.
func (s *Server) accept(connection *net.UnixConn) {
	// The answer must not wait for the one it is for.
	if err := connection.SetDeadline(time.Now().Add(frameTimeout)); err != nil {
		_ = connection.Close()
		return
	}
	p := peer.OfUnix(connection, s.settings.Sandbox)
	if !s.limits.take(p.Sandbox, time.Now()) {
		s.refused.Add(1)
		s.answer(connection, Refused)
		_ = connection.Close()
		return
	}
	s.open.Go(func() {
		defer s.limits.giveBack(p.Sandbox)
		defer func() { _ = connection.Close() }()
		s.serve(connection, p)
	})
}

// serve reads one frame and answers it. The answer keeps the hook, and so its agent, from going on before the
// claim is in and its process has been looked at.
func (s *Server) serve(connection *net.UnixConn, p peer.Task) {
	frame, err := ReadFrame(connection)
	now := time.Now()
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.late.Add(1)
			return
		}
		s.malformed.Add(1)
		s.answer(connection, Malformed)
		return
	}
	origin, via, name := s.trace(p)
	if name == "" && known(frame.Agent) {
		name = frame.Agent
	}
	said, err := agent.HookClaim(name, frame.Input, now, s.settings.Options)
	switch {
	case errors.Is(err, agent.ErrHookEvent):
		s.ignored.Add(1)
		s.answer(connection, Taken)
		return
	case err != nil:
		s.malformed.Add(1)
		s.answer(connection, Malformed)
		return
	}
	if !origin.Known() {
		s.unattributed.Add(1)
	}
	s.taken.Add(1)
	s.settings.Claim(&agent.Statement{Origin: origin, Via: via, Time: now, Claim: said})
	s.answer(connection, Taken)
}

// answer tells the hook. One that has gone needs no answer.
func (s *Server) answer(connection *net.UnixConn, status Status) {
	_, _ = connection.Write([]byte{byte(status)})
}

func known(name string) bool {
	for _, a := range agent.Adapters() {
		if a.Name == name {
			return true
		}
	}
	return false
}
