// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	contentType     = "application/x-protobuf"
	contentTypeJSON = "application/json"
)

// maxResponseBytes bounds what is read of an answer.
const maxResponseBytes = 64 << 10

const (
	// maxRetryAfter bounds how long a server may make us wait.
	maxRetryAfter = 5 * time.Minute
	// maxReconnect bounds the time between two attempts of gRPC to connect, which has pauses of its own.
	maxReconnect = 5 * time.Second
	// pingTimeout is how long a connection may be silent before it is asked, and how long it may not answer.
	pingTimeout = 15 * time.Second
)

type httpTransport struct {
	client     *http.Client
	dest       Destination
	headers    *headerSource
	compressor *compressor
}

func newHTTPTransport(dest Destination, headers *headerSource) (*httpTransport, error) {
	u, err := url.Parse(dest.Endpoint)
	if err != nil {
		return nil, errors.New("the endpoint is not a URL")
	}
	if _, err := dest.TLS.config(u.Hostname()); err != nil {
		return nil, err
	}
	compressor, err := newCompressor(dest.Compression)
	if err != nil {
		return nil, err
	}
	return &httpTransport{
		dest: dest, headers: headers, compressor: compressor,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:             nil, // a proxy of the environment is not the operator's word on where telemetry goes
				DialTLSContext:    dest.TLS.dialer(u.Hostname()),
				ForceAttemptHTTP2: true,
				IdleConnTimeout:   90 * time.Second,
				MaxIdleConns:      2,
				// A connection that a firewall forgot is found out, and not sent into until TCP gives up.
				HTTP2: &http.HTTP2Config{SendPingTimeout: pingTimeout, PingTimeout: pingTimeout},
			},
			// Headers are credentials: they do not follow a redirect.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func (t *httpTransport) send(ctx context.Context, request []byte) ([]byte, error) {
	headers, err := t.headers.get()
	if err != nil {
		return nil, &attemptError{err: err, verdict: blocked}
	}
	kind := contentType
	if t.dest.Protocol == ProtocolJSON {
		kind = contentTypeJSON
		if request, err = logsToJSON(request); err != nil {
			return nil, &attemptError{err: err, verdict: refused}
		}
	}
	body, err := t.compressor.compress(request)
	if err != nil {
		return nil, &attemptError{err: err, verdict: blocked}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.dest.Endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, &attemptError{err: errors.New("the endpoint is not a URL"), verdict: blocked}
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("User-Agent", "watchglass")
	if t.compressor != nil {
		r.Header.Set("Content-Encoding", t.compressor.name)
	}
	answer, err := t.client.Do(r)
	if err != nil {
		return nil, &attemptError{err: withoutURL(err), verdict: connectionVerdict(err)}
	}
	defer func() { _ = answer.Body.Close() }()
	reply, err := io.ReadAll(io.LimitReader(answer.Body, maxResponseBytes))
	if err != nil {
		return nil, &attemptError{err: fmt.Errorf("read the answer: %w", err)}
	}
	return judge(answer, reply)
}

// judge turns an answer into its body or an attemptError.
func judge(answer *http.Response, reply []byte) ([]byte, error) {
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		if mediaType(answer) == contentTypeJSON {
			if message, err := responseFromJSON(reply); err == nil {
				return message, nil
			}
		}
		// What is neither is not OTLP: whoever answered so did not take our data.
		if mediaType(answer) == contentTypeJSON || !wellFormed(reply) {
			return nil, &attemptError{verdict: blocked, err: fmt.Errorf(
				"the answer HTTP %d is not OTLP (content type %s): is this the endpoint of a collector?",
				answer.StatusCode, printable(answer.Header.Get("Content-Type")))}
		}
		return reply, nil
	}
	failed := &attemptError{
		err:     fmt.Errorf("HTTP %d %s%s", answer.StatusCode, http.StatusText(answer.StatusCode), reason(answer, reply)),
		verdict: httpVerdict(answer.StatusCode),
	}
	if failed.verdict == later {
		failed.after = retryAfter(answer.Header.Get("Retry-After"), time.Now())
	}
	return nil, failed
}

// httpVerdict is what a status says. Those that are tried again are the OTLP specification's.
func httpVerdict(status int) verdict {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return later
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return refused
	case http.StatusRequestEntityTooLarge:
		return tooLarge
	}
	if status >= http.StatusInternalServerError {
		return unclear
	}
	return blocked
}

// wellFormed says whether a message consists of protobuf's fields.
func wellFormed(message []byte) bool {
	for len(message) > 0 {
		_, _, n := protowire.ConsumeField(message)
		if n < 0 {
			return false
		}
		message = message[n:]
	}
	return true
}

// reason is the server's own words, from a google.rpc.Status where it sent one.
func reason(answer *http.Response, reply []byte) string {
	var s spb.Status
	var err error
	switch mediaType(answer) {
	case contentType:
		err = proto.Unmarshal(reply, &s)
	case contentTypeJSON:
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(reply, &s)
	}
	if err != nil || s.GetMessage() == "" {
		return ""
	}
	return ": " + printable(s.GetMessage())
}

// mediaType is the answer's content type without parameters.
func mediaType(answer *http.Response) string {
	kind, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// retryAfter is seconds or a date, 0 when it says nothing.
func retryAfter(value string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		wait = date.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// connectionVerdict tells a connection that may be had later, refused ones among them, from one that fails
// in a way that the next attempt will repeat.
func connectionVerdict(err error) verdict {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	if errors.As(err, &verification) || errors.As(err, &record) {
		return blocked
	}
	return later
}

// withoutURL takes off the wrapper that repeats the URL with its query.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

func (t *httpTransport) close() error {
	t.client.CloseIdleConnections()
	return nil
}
