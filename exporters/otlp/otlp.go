// SPDX-License-Identifier: Apache-2.0

// Package otlp turns events into OTLP log records and sends them, and the instruments as OTLP metrics, to an
// OpenTelemetry Collector or whatever else speaks OTLP: gRPC, or HTTP with protobuf or JSON, TLS with own
// authorities and client certificates, headers, gzip or zstd.
//
// An event is encoded once (Encoder), whatever it waits in and wherever it goes. Logs is one destination: it
// delivers each record, or says which one the destination refuses for good and why. The OpenTelemetry SDK's
// batcher is not used, because it drops what it cannot send and tells nobody.
//
// It owns the mapping to OTLP, the transports and the retries. It must not read the environment (a
// lookup function is passed in), define instruments, or ever show the value of a header.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

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
	// Environment looks up the variables that headers name. Nil means that there are none.
	Environment func(name string) (string, bool)
}

// scopeName is the instrumentation scope of everything that is sent.
const scopeName = "github.com/watchglass/watchglass"

// signal is the part of OTLP that differs between logs and metrics.
type signal struct {
	// name is for messages, method the full gRPC method.
	name, method string
}

// transport makes one attempt with an encoded request and gives the encoded response. A failure is an
// *attemptError. The request may be read still when the attempt is over.
type transport interface {
	send(ctx context.Context, request []byte) ([]byte, error)
	close() error
}

// newTransport prepares to send. It does not connect.
func newTransport(s signal, dest Destination, settings *Settings) (transport, error) {
	headers, err := newHeaderSource(&dest, settings.Environment)
	if err != nil {
		return nil, fmt.Errorf("prepare to send %s to %s: %w", s.name, dest.name(), err)
	}
	var t transport
	if dest.Protocol == ProtocolGRPC {
		t, err = newGRPCTransport(s, dest, headers)
	} else {
		t, err = newHTTPTransport(dest, headers)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare to send %s to %s: %w", s.name, dest.name(), err)
	}
	return t, nil
}

// attempt makes one attempt within the destination's timeout.
func attempt(ctx context.Context, t transport, dest *Destination, request []byte) ([]byte, *attemptError) {
	ctx, cancel := context.WithTimeout(ctx, dest.Timeout)
	defer cancel()
	response, err := t.send(ctx, request)
	if err == nil {
		return response, nil
	}
	if failed, ok := errors.AsType[*attemptError](err); ok {
		return nil, failed
	}
	return nil, &attemptError{err: err, verdict: blocked}
}

// pause waits, or says false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sender sends requests of one signal to one destination and gives up after a time.
type sender struct {
	signal    signal
	dest      Destination
	retry     Retry
	transport transport
}

func newSender(s signal, dest Destination, cfg *Config, settings *Settings) (*sender, error) {
	t, err := newTransport(s, dest, settings)
	if err != nil {
		return nil, err
	}
	return &sender{signal: s, dest: dest, retry: cfg.Retry, transport: t}, nil
}

// send delivers the request and reads the response into response, or says why it could not.
func (s *sender) send(ctx context.Context, request, response proto.Message) error {
	body, err := proto.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode %s: %w", s.signal.name, err)
	}
	reply, err := s.exchange(ctx, body)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(reply, response); err != nil {
		return fmt.Errorf("send %s to %s: the answer is not OTLP: %w", s.signal.name, s.dest.name(), err)
	}
	return nil
}

// exchange delivers an encoded request and gives the encoded response, or says why it could not.
func (s *sender) exchange(ctx context.Context, body []byte) ([]byte, error) {
	start, waits := time.Now(), pauses{retry: s.retry}
	for attempts := 1; ; attempts++ {
		reply, failed := attempt(ctx, s.transport, &s.dest, body)
		if failed == nil {
			return reply, nil
		}
		wait := waits.next(failed)
		if failed.verdict != later || time.Since(start)+wait > s.retry.Elapsed || !pause(ctx, wait) {
			times := ""
			if attempts > 1 {
				times = fmt.Sprintf(" (%d attempts)", attempts)
			}
			return nil, fmt.Errorf("send %s to %s%s: %w%s", s.signal.name, s.dest.name(), times, failed, remedy(failed, s.dest))
		}
	}
}

// maxReason bounds how much of a server's words goes into a message.
const maxReason = 256

// printable is a server's words, fit for a log.
func printable(s string) string { return strings.TrimSpace(exporters.PrintableUpTo(s, maxReason)) }
