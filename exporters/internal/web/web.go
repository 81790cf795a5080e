// SPDX-License-Identifier: Apache-2.0

// Package web posts small JSON documents over HTTP, for the exporters that tell people of findings.
//
// It owns the connection: credentials from files, TLS, time limits, which failures are worth another
// attempt, and what of an answer may be shown. It must not know what is posted, and never shows a
// credential: of a URL, which is one at some services, only scheme and host.
package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/watchglass/watchglass/exporters"
)

// Auth is how we show who we are. The files are read anew for every request, so that a credential that is
// renewed is taken up.
type Auth struct {
	// Username and PasswordFile are for basic authentication.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	// BearerTokenFile is for tokens.
	BearerTokenFile string `yaml:"bearer_token_file"`
}

// TLS names PEM files.
type TLS struct {
	// CAFile is who signs the server's certificate, instead of the system's authorities.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are the client's own certificate.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Retry bounds the attempts for one document.
type Retry struct {
	// Initial is the first pause; it doubles, with jitter, up to Max. A server that says when to come back is obeyed.
	Initial time.Duration `yaml:"initial"`
	Max     time.Duration `yaml:"max"`
	// Elapsed is when to give up, counted from the first attempt.
	Elapsed time.Duration `yaml:"elapsed"`
}

// Limits of what is read of others.
const (
	maxAnswer     = 4 << 10
	maxReason     = 200
	maxCredential = 64 << 10
	maxRetryAfter = 5 * time.Minute
)

// Failure is a document that was not taken.
type Failure struct {
	err error
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// Retry says whether another attempt may succeed, after how long the server wants to wait (0: it did not say).
	Retry bool
	After time.Duration
}

// Error implements error.
func (f *Failure) Error() string { return f.err.Error() }

// Unwrap is the cause.
func (f *Failure) Unwrap() error { return f.err }

// Content says whether it is about what was sent, and not about who sent it, where or when.
func (f *Failure) Content() bool {
	return f.Status == http.StatusBadRequest || f.Status == http.StatusRequestEntityTooLarge || f.Status == http.StatusUnprocessableEntity
}

// ValidateURL says what is wrong with a URL, without repeating what in it may be secret.
func ValidateURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("is not a URL") // the error would show it
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return fmt.Errorf("%s: must be a URL that begins with http:// or https://", Name(text))
	case u.User != nil:
		return fmt.Errorf("%s: must not hold a password; use username and password_file", Name(text))
	}
	return nil
}

// Validate says what is wrong with the credentials.
func (a Auth) Validate() error {
	switch {
	case (a.Username == "") != (a.PasswordFile == ""):
		return errors.New("username: belongs together with password_file")
	case a.Username != "" && a.BearerTokenFile != "":
		return errors.New("bearer_token_file: cannot be used beside username")
	}
	return nil
}

// Validate says what is wrong with the names.
func (t TLS) Validate() error {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return errors.New("tls: cert_file and key_file belong together")
	}
	return nil
}

// Validate says what is wrong with the bounds.
func (r Retry) Validate() error {
	if r.Initial <= 0 || r.Max < r.Initial || r.Elapsed < 0 {
		return fmt.Errorf("retry: initial (%v) must be positive and at most max (%v), elapsed (%v) not negative", r.Initial, r.Max, r.Elapsed)
	}
	return nil
}

// Name is a URL as messages may show it.
func Name(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "the URL"
	}
	return u.Scheme + "://" + u.Host
}

// Client posts to one server.
type Client struct {
	url     string
	auth    Auth
	timeout time.Duration
	client  *http.Client
	noPages bool
}

// Settings is where and how a client posts.
type Settings struct {
	URL     string
	Auth    Auth
	TLS     TLS
	Timeout time.Duration
	// NoPages says that who answers with a web page did not take the document: somebody else listens there.
	NoPages bool
}

// New makes a client. It reads the authorities' certificates, and looks once whether the other files are there.
func New(s Settings) (*Client, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, errors.New("the address is not a URL")
	}
	cfg, err := s.TLS.config(u.Hostname())
	if err != nil {
		return nil, err
	}
	c := &Client{url: s.URL, auth: s.Auth, timeout: s.Timeout, noPages: s.NoPages, client: &http.Client{
		Transport: &http.Transport{
			Proxy:           nil, // a proxy of the environment is not the operator's word on where findings go
			TLSClientConfig: cfg, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, MaxIdleConns: 2,
		},
		// Credentials do not follow a redirect.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return c, c.auth.set(&http.Request{Header: http.Header{}})
}

func (t TLS) config(host string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read tls.ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read tls.ca_file: %s holds no certificate in PEM form", t.CAFile)
		}
	}
	if t.CertFile == "" {
		return cfg, nil
	}
	load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read tls.cert_file and tls.key_file: %w", err)
		}
		return &cert, nil
	}
	if _, err := load(nil); err != nil {
		return nil, err
	}
	cfg.GetClientCertificate = load
	return cfg, nil
}

// set puts the credentials into a request.
func (a Auth) set(r *http.Request) error {
	if a.Username != "" {
		password, err := ReadSecret(a.PasswordFile)
		if err != nil {
			return fmt.Errorf("read password_file: %w", err)
		}
		r.SetBasicAuth(a.Username, password)
	}
	if a.BearerTokenFile != "" {
		token, err := ReadSecret(a.BearerTokenFile)
		if err != nil {
			return fmt.Errorf("read bearer_token_file: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

// ReadSecret is the first line of a file.
func ReadSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxCredential))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return line, nil
}

// Post makes one attempt. The error is a *Failure.
func (c *Client) Post(ctx context.Context, body []byte, header http.Header) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return &Failure{err: errors.New("the address is not a URL")}
	}
	maps.Copy(r.Header, header)
	r.Header.Set("User-Agent", "watchglass")
	if err := c.auth.set(r); err != nil {
		return &Failure{err: err, Retry: true} // it may be being replaced
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return &Failure{err: explained(withoutURL(err)), Retry: !hopeless(err)}
	}
	defer func() { _ = answer.Body.Close() }()
	reply, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); c.noPages && kind == "text/html" && answer.StatusCode < 300 {
		return &Failure{err: errors.New("the answer is a web page (check the URL: somebody else listens there)")}
	}
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return nil // whatever became of the answer's body: it is not asked for
	}
	failed := &Failure{Status: answer.StatusCode, err: fmt.Errorf("HTTP %d %s%s%s",
		answer.StatusCode, http.StatusText(answer.StatusCode), reason(reply), remedy(answer.StatusCode))}
	if err != nil {
		failed.err = fmt.Errorf("%w (and reading the answer: %w)", failed.err, err)
	}
	switch answer.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		failed.Retry, failed.After = true, retryAfter(answer.Header.Get("Retry-After"), time.Now())
	}
	return failed
}

// Deliver posts until the document is taken, refused for good, or time is over.
func (c *Client) Deliver(ctx context.Context, body []byte, header http.Header, retry Retry) error {
	start, pause := time.Now(), retry.Initial
	for attempt := 1; ; attempt++ {
		err := c.Post(ctx, body, header)
		failed, ok := errors.AsType[*Failure](err)
		if !ok {
			return err
		}
		wait := Jitter(pause)
		if failed.After > 0 {
			wait = failed.After
		}
		if !failed.Retry || ctx.Err() != nil || time.Since(start)+wait > retry.Elapsed {
			return fmt.Errorf("%w (%d attempts)", err, attempt)
		}
		pause = min(2*pause, retry.Max)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (%d attempts)", err, attempt)
		}
	}
}

// Jitter is a pause between half of d and d, so that those who failed together do not come back together.
func Jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // not for secrecy
}

// Close gives up idle connections.
func (c *Client) Close() { c.client.CloseIdleConnections() }

// reason is the server's own words, made printable.
func reason(reply []byte) string {
	text := exporters.PrintableUpTo(strings.TrimSpace(string(reply)), maxReason)
	if text == "" {
		return ""
	}
	return ": " + text
}

func remedy(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return " (check the credentials that are configured for it)"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return " (check the URL)"
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return " (redirects are not followed: configure the URL that it leads to)"
	}
	return ""
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

// explained adds what a person can do about a connection that failed.
func explained(err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	advice := ""
	switch {
	case errors.As(err, &unknown):
		advice = "set tls.ca_file to the authority that signed the server's certificate"
	case errors.As(err, &host):
		advice = "use a host name in the URL that is in the server's certificate"
	case errors.As(err, &invalid):
		advice = "the server needs a valid certificate; compare the clocks"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		advice = "the server does not speak TLS: use http:// in the URL, or enable TLS there"
	case strings.Contains(err.Error(), "remote error: tls: "):
		advice = "if the server wants a client certificate that it trusts, set tls.cert_file and tls.key_file"
	case errors.Is(err, syscall.ECONNREFUSED):
		advice = "nothing listens there: is it running, and is the port right?"
	case errors.As(err, &dns):
		advice = "the host name cannot be resolved"
	case errors.Is(err, context.DeadlineExceeded):
		advice = "the server did not answer within the timeout"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, advice)
}

// withoutURL takes off the wrapper that repeats the URL.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
