// SPDX-License-Identifier: Apache-2.0

// Package otlp sends events as OTLP logs, and the instruments as OTLP metrics, to an OpenTelemetry
// Collector or whatever else speaks OTLP: gRPC or HTTP with protobuf, TLS with own authorities and client
// certificates, headers, gzip.
//
// Requests are built from go.opentelemetry.io/proto/otlp and sent from the goroutine that asks for it. The
// OpenTelemetry SDK's batcher is not used, because it drops what it cannot send and tells nobody: here a
// batch is delivered, or its failure is returned and counted.
//
// It owns the mapping to OTLP, the transports and the retries. It must not read the environment (a
// lookup function is passed in), define instruments, or ever show the value of a header.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Settings is what the program passes, as opposed to what people configure.
type Settings struct {
	// Resource is the program's own resource attributes: service.*, host.*.
	Resource []event.Attribute
	// Logger takes what goes wrong besides what is returned.
	Logger *slog.Logger
}

// scopeName is the instrumentation scope of everything that is sent.
const scopeName = "github.com/watchglass/watchglass"

// signal is the part of OTLP that differs between logs and metrics.
type signal struct {
	// name is for messages, method the full gRPC method.
	name, method string
	// response makes an empty response, rejected reads how many items of it were refused, and why.
	response func() proto.Message
	rejected func(proto.Message) (int64, string)
}

// transport makes one attempt. A failure is an *attemptError.
type transport interface {
	send(ctx context.Context, request, response proto.Message) error
	close() error
}

// attemptError is one failed attempt.
type attemptError struct {
	err error
	// retry says whether another attempt may succeed, after how long the server wants to wait (0: it did not say).
	retry bool
	after time.Duration
}

func (e *attemptError) Error() string { return e.err.Error() }
func (e *attemptError) Unwrap() error { return e.err }

// RejectedError says that the destination took a request but refused some of its items for good.
type RejectedError struct {
	// Destination is where, Reason the destination's own words, made printable.
	Destination, Reason string
	// Items is how many log records or data points were refused.
	Items int64
}

// Error implements error.
func (e *RejectedError) Error() string {
	return fmt.Sprintf("%s refused %d items: %s", e.Destination, e.Items, e.Reason)
}

// sender sends requests of one signal to one destination, with retries.
type sender struct {
	signal    signal
	dest      Destination
	retry     Retry
	transport transport
}

func newSender(s signal, dest Destination, retry Retry) (*sender, error) {
	var t transport
	var err error
	switch dest.Protocol {
	case ProtocolHTTP:
		t, err = newHTTPTransport(dest)
	default:
		t, err = newGRPCTransport(s, dest)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare to send %s to %s: %w", s.name, dest.name(), err)
	}
	return &sender{signal: s, dest: dest, retry: retry, transport: t}, nil
}

// send delivers the request or says why it could not.
func (s *sender) send(ctx context.Context, request proto.Message) error {
	start, pause := time.Now(), s.retry.Initial
	for attempt := 1; ; attempt++ {
		response := s.signal.response()
		err := s.attempt(ctx, request, response)
		if err == nil {
			return s.partial(response)
		}
		var failed *attemptError
		if !errors.As(err, &failed) || !failed.retry || ctx.Err() != nil {
			return s.failure(err, attempt)
		}
		wait := pause/2 + rand.N(pause/2+1) //nolint:gosec // jitter
		if failed.after > 0 {
			wait = failed.after
		}
		pause = min(2*pause, s.retry.Max)
		if time.Since(start)+wait > s.retry.Elapsed {
			return s.failure(err, attempt)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return s.failure(err, attempt)
		}
	}
}

func (s *sender) attempt(ctx context.Context, request, response proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, s.dest.Timeout)
	defer cancel()
	return s.transport.send(ctx, request, response)
}

func (s *sender) failure(err error, attempts int) error {
	times := ""
	if attempts > 1 {
		times = fmt.Sprintf(" (%d attempts)", attempts)
	}
	return fmt.Errorf("send %s to %s%s: %w%s", s.signal.name, s.dest.name(), times, err, remedy(err, s.dest))
}

func (s *sender) partial(response proto.Message) error {
	items, reason := s.signal.rejected(response)
	if items <= 0 {
		return nil
	}
	return &RejectedError{Destination: s.dest.name(), Reason: printable(reason), Items: items}
}

// maxReason bounds how much of a server's words goes into a message.
const maxReason = 256

// printable is a server's words, fit for a log.
func printable(s string) string {
	var dst []byte
	for len(s) > 0 && len(dst) < maxReason {
		var n int
		dst, n = exporters.AppendPrintable(dst, s)
		s = s[n:]
	}
	if len(s) > 0 {
		dst = append(dst, "…"...)
	}
	return strings.TrimSpace(string(dst))
}

// maxRequestBytes keeps requests below the 4 MiB that gRPC servers take by default.
const maxRequestBytes = 2 << 20

// text is a string that protobuf accepts, and whether it had to be rewritten.
func text(s string) (string, bool) {
	if utf8.ValidString(s) {
		return s, false
	}
	return string(exporters.AppendRewritten(nil, []byte(s))), true
}

// texts is a list that protobuf accepts. When one of its strings is not UTF-8 then all are rewritten, so
// that the list can be read back in one way only.
func texts(list []string) ([]string, bool) {
	if !slices.ContainsFunc(list, func(s string) bool { return !utf8.ValidString(s) }) {
		return list, false
	}
	rewritten := make([]string, len(list))
	for i, s := range list {
		rewritten[i] = string(exporters.AppendRewritten(nil, []byte(s)))
	}
	return rewritten, true
}
