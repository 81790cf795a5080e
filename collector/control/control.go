// SPDX-License-Identifier: Apache-2.0

// Package control is the socket on which whoever runs the collector asks it what it remembers: HTTP over a unix
// socket, of which the kernel says who is at the other end.
//
// It owns the socket, who may use it, and the form of the answers. It must not be reachable from a sandbox, nor
// change anything: it reads.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/collector/unixsocket"
	"github.com/watchglass/watchglass/event"
)

// Config says where the socket is.
type Config struct {
	Enabled bool `yaml:"enabled"`
	// Path is the socket's. Its directory must be writable for nobody but root and the collector's own user.
	Path string `yaml:"path"`
}

// Validate says what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	if !c.Enabled {
		return nil
	}
	if err := unixsocket.Check(c.Path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	return nil
}

// Source is what is asked. Its methods may be called from any goroutine.
type Source interface {
	// Sessions is every session that is remembered, without its turns.
	Sessions() []event.SessionView
	// Session is every session with an id, with all that is remembered of it.
	Session(id string) []event.SessionView
}

// Settings is what a Server is made of. Both must be set.
type Settings struct {
	Source Source
	Logger *slog.Logger
}

// Bounds of a request. Only the operator can make one: they are against mistakes.
const (
	requestTime = 10 * time.Second
	maxHeader   = 8 << 10
	socketMode  = 0o600
)

// Server answers on the socket: Open, then Run, once, then Close.
type Server struct {
	settings Settings
	listener *net.UnixListener
	server   *http.Server
	user     uint32
}

// Open makes the socket. Connections wait in it until Run.
func Open(cfg Config, s Settings) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	listener, err := unixsocket.Listen(cfg.Path, socketMode)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	server := &Server{settings: s, listener: listener, user: uint32(os.Geteuid())}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/sessions", func(w http.ResponseWriter, _ *http.Request) { server.answer(w, s.Source.Sessions()) })
	mux.HandleFunc("GET /v1/sessions/{id}", func(w http.ResponseWriter, r *http.Request) {
		server.answer(w, s.Source.Session(r.PathValue("id")))
	})
	server.server = &http.Server{
		Handler: server.authorised(mux), ReadTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: requestTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, caller(c))
		},
	}
	return server, nil
}

type callerKey struct{}

// credentials is who is at the other end of a connection.
type credentials struct {
	uid   uint32
	known bool
}

func caller(c net.Conn) credentials {
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		return credentials{}
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return credentials{}
	}
	var found credentials
	_ = raw.Control(func(fd uintptr) {
		if u, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			found = credentials{uid: u.Uid, known: true}
		}
	})
	return found
}

// authorised lets root and the collector's own user through.
func (s *Server) authorised(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(callerKey{}).(credentials)
		if !ok || !c.known || c.uid != 0 && c.uid != s.user {
			s.settings.Logger.Warn("a stranger asked on the control socket", "uid", c.uid)
			http.Error(w, "only root and user "+strconv.Itoa(int(s.user))+" may ask", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// reply is the form of every answer.
type reply struct {
	Sessions []event.SessionView `json:"sessions"`
}

func (s *Server) answer(w http.ResponseWriter, sessions []event.SessionView) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(reply{sessions}); err != nil {
		s.settings.Logger.Debug("an answer on the control socket was not read", "error", err)
	}
}

// Run serves until ctx ends, or until the socket fails.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.server.Shutdown(ending)
	})
	defer stop()
	if err := s.server.Serve(s.listener); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Close removes the socket. It is for a server that was not run, too.
func (s *Server) Close() error {
	if err := s.server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// maxAnswer bounds what a Client reads.
const maxAnswer = 256 << 20

// Client asks a collector.
type Client struct{ http *http.Client }

// NewClient asks at the socket at path. Nothing is connected yet.
func NewClient(path string) *Client {
	return &Client{http: &http.Client{
		Timeout: requestTime,
		Transport: &http.Transport{
			Proxy:             nil,
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			},
		},
	}}
}

// Sessions is every session that the collector remembers, without its turns.
func (c *Client) Sessions(ctx context.Context) ([]event.SessionView, error) {
	return c.ask(ctx, "/v1/sessions")
}

// Session is every session with an id, with all that is remembered of it; none when it is not known.
func (c *Client) Session(ctx context.Context, id string) ([]event.SessionView, error) {
	return c.ask(ctx, "/v1/sessions/"+url.PathEscape(id))
}

func (c *Client) ask(ctx context.Context, path string) ([]event.SessionView, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://watchglass"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the collector refuses: %s", body)
	}
	var got reply
	if err := json.Unmarshal(body, &got); err != nil {
		return nil, fmt.Errorf("decode the answer: %w", err)
	}
	return got.Sessions, nil
}
