// SPDX-License-Identifier: Apache-2.0

// Package prometheus serves what monitoring asks a collector for over HTTP: /metrics (OpenMetrics with
// exemplars where the scraper understands it), /metrics/sandboxes, /healthz and /readyz.
//
// It owns the HTTP server. It must not define instruments (exporters/metrics.go does), and does not
// know what health means: it is told by functions.
package prometheus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/watchglass/watchglass/exporters"
)

// Config says where to listen.
type Config struct {
	// Address is host:port; port 0 takes a free one. Without a host it listens on every interface, so name one.
	Address string `yaml:"address"`
	// MaxSandboxes is how many sandboxes have series of their own at /metrics/sandboxes.
	MaxSandboxes int `yaml:"max_sandboxes"`
}

// DefaultConfig listens on loopback only: metrics name rules and file classes, which is not everybody's business.
func DefaultConfig() Config {
	return Config{Address: "127.0.0.1:9464", MaxSandboxes: exporters.DefaultMaxSandboxes}
}

// mostSandboxes bounds MaxSandboxes: a scrape of more is too large for who scrapes it.
const mostSandboxes = 10000

// Validate says what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("address: must be host:port: %w", err)
	}
	if c.MaxSandboxes < 0 || c.MaxSandboxes > mostSandboxes {
		return fmt.Errorf("max_sandboxes: %d is not between 0 and %d", c.MaxSandboxes, mostSandboxes)
	}
	return nil
}

// Settings is what the program passes, as opposed to what people configure.
type Settings struct {
	// Metrics is what /metrics shows.
	Metrics *exporters.Metrics
	// Sandboxes is what /metrics/sandboxes shows; nil for no such page.
	Sandboxes *exporters.SandboxMetrics
	// Healthy returns nil while the process works as it should, Ready once it also watches. Their
	// errors are shown to who asks. Nil functions mean always.
	Healthy, Ready func() error
	// Logger takes what goes wrong while serving.
	Logger *slog.Logger
}

// Limits of the server: a scrape is small and quick, and whoever can reach the port may be hostile.
const (
	readTimeout    = 5 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	scrapeTimeout  = 10 * time.Second
	maxScrapes     = 8
	maxHeaderBytes = 16 << 10
	stopTimeout    = 5 * time.Second
)

// Server is the HTTP server. Its port is bound from Open on.
type Server struct {
	listener net.Listener
	server   *http.Server
}

// Open binds the address, so that a port in use is an error before anything is watched. Run serves.
func Open(cfg Config, s Settings) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("prometheus exporter: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics on %s (another address can be configured): %w", cfg.Address, err)
	}
	return &Server{
		listener: listener,
		server: &http.Server{
			Handler:           handler(s),
			ReadTimeout:       readTimeout,
			ReadHeaderTimeout: readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn),
		},
	}, nil
}

// Address is where it listens, with the actual port.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Run serves until ctx ends; requests under way then have a few seconds to finish.
func (s *Server) Run(ctx context.Context) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := s.server.Shutdown(timeout)
		if err != nil {
			err = errors.Join(err, s.server.Close())
		}
		stopped <- err
	})
	err := s.server.Serve(s.listener)
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", s.Address(), err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("stop serving metrics on %s: %w", s.Address(), err)
	}
	return nil
}

// Close gives the port back at once, also where Run was never called.
func (s *Server) Close() error {
	err := errors.Join(s.server.Close(), s.listener.Close())
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop serving metrics: %w", err)
	}
	return nil
}

func handler(s Settings) http.Handler {
	registry := s.Metrics.Registry()
	options := promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		Registry:            registry,
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, options))
	if s.Sandboxes != nil {
		options.Registry = nil // its registry is the sandboxes' alone
		mux.Handle("GET /metrics/sandboxes", promhttp.HandlerFor(s.Sandboxes.Registry(), options))
	}
	mux.Handle("GET /healthz", status(s.Healthy))
	mux.Handle("GET /readyz", status(s.Ready))
	return mux
}

// status answers 200 and "ok", or 503 and why not.
func status(check func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if check != nil {
			if err := check(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = fmt.Fprintln(w, err)
				return
			}
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
}
