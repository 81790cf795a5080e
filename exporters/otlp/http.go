// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

const contentType = "application/x-protobuf"

// maxResponseBytes bounds what is read of an answer.
const maxResponseBytes = 64 << 10

// maxRetryAfter bounds how long a server may make us wait.
const maxRetryAfter = 5 * time.Minute

type httpTransport struct {
	client *http.Client
	dest   Destination
}

func newHTTPTransport(dest Destination) (*httpTransport, error) {
	u, err := url.Parse(dest.Endpoint)
	if err != nil {
		return nil, errors.New("the endpoint is not a URL")
	}
	cfg, err := dest.TLS.config(u.Hostname())
	if err != nil {
		return nil, err
	}
	return &httpTransport{
		dest: dest,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:             nil, // a proxy of the environment is not the operator's word on where telemetry goes
				TLSClientConfig:   cfg,
				ForceAttemptHTTP2: true,
				IdleConnTimeout:   90 * time.Second,
				MaxIdleConns:      2,
			},
			// Headers are credentials: they do not follow a redirect.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func (t *httpTransport) send(ctx context.Context, request, response proto.Message) error {
	body, err := t.encode(request)
	if err != nil {
		return &attemptError{err: err}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.dest.Endpoint, bytes.NewReader(body))
	if err != nil {
		return &attemptError{err: errors.New("the endpoint is not a URL")}
	}
	for name, value := range t.dest.Headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "watchglass")
	if t.dest.Compression == CompressionGzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	answer, err := t.client.Do(r)
	if err != nil {
		return &attemptError{err: withoutURL(err), retry: !hopeless(err)}
	}
	defer func() { _ = answer.Body.Close() }()
	reply, err := io.ReadAll(io.LimitReader(answer.Body, maxResponseBytes))
	if err != nil {
		return &attemptError{err: fmt.Errorf("read the answer: %w", err), retry: true}
	}
	return judge(answer, reply, response)
}

func (t *httpTransport) encode(request proto.Message) ([]byte, error) {
	body, err := proto.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	if t.dest.Compression != CompressionGzip {
		return body, nil
	}
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, writeErr := w.Write(body)
	if err := errors.Join(writeErr, w.Close()); err != nil {
		return nil, fmt.Errorf("compress the request: %w", err)
	}
	return buf.Bytes(), nil
}

// judge turns an answer into success or an attemptError.
func judge(answer *http.Response, reply []byte, response proto.Message) error {
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		// What is not protobuf is not OTLP: whoever answered so did not take our data.
		if err := proto.Unmarshal(reply, response); err != nil {
			return &attemptError{err: fmt.Errorf(
				"the answer HTTP %d is not OTLP (content type %s): is this the endpoint of a collector?",
				answer.StatusCode, printable(answer.Header.Get("Content-Type")))}
		}
		return nil
	}
	failed := &attemptError{err: fmt.Errorf("HTTP %d %s%s", answer.StatusCode, http.StatusText(answer.StatusCode), reason(answer, reply))}
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		failed.retry = true
		failed.after = retryAfter(answer.Header.Get("Retry-After"), time.Now())
	}
	return failed
}

// reason is the server's own words, from a google.rpc.Status where it sent one.
func reason(answer *http.Response, reply []byte) string {
	if answer.Header.Get("Content-Type") != contentType {
		return ""
	}
	var s spb.Status
	if proto.Unmarshal(reply, &s) != nil || s.GetMessage() == "" {
		return ""
	}
	return ": " + printable(s.GetMessage())
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

// hopeless says whether a connection failed in a way that the next attempt will repeat.
func hopeless(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &verification) || errors.As(err, &record)
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
