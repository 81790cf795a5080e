// SPDX-License-Identifier: Apache-2.0

package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for both sides.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// issue writes a certificate for loopback and its key.
func (a *authority) issue(t *testing.T, name string, until time.Time) (cert, key string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &own.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return a.write(t, name+".pem", "CERTIFICATE", der), a.write(t, name+"-key.pem", "PRIVATE KEY", keyDER)
}

func serveTLS(t *testing.T, a *authority, until time.Time) string {
	t.Helper()
	cert, key := a.issue(t, "server", until)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func TestTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	client, clientKey := a.issue(t, "client", time.Now().Add(time.Hour))
	own := TLS{CAFile: filepath.Join(a.dir, "ca.pem"), CertFile: client, KeyFile: clientKey}
	for name, c := range map[string]struct {
		until time.Time
		tls   TLS
		want  string
		retry bool
	}{
		"mutual":            {time.Now().Add(time.Hour), own, "", false},
		"unknown authority": {time.Now().Add(time.Hour), TLS{CertFile: client, KeyFile: clientKey}, "certificate signed by unknown authority (set tls.ca_file to", false},
		"expired":           {time.Now().Add(-time.Hour), own, "(the server needs a valid certificate; compare the clocks)", false},
		"no client's":       {time.Now().Add(time.Hour), TLS{CAFile: own.CAFile}, "certificate required (if the server wants a client certificate", true},
	} {
		authority := *a
		authority.dir = t.TempDir()
		url := serveTLS(t, &authority, c.until)
		client, err := New(Settings{URL: url, TLS: c.tls, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		err = client.Post(t.Context(), []byte("{}"), nil)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		var failed *Failure
		if err != nil {
			failed = err.(*Failure)
			if failed.Retry != c.retry {
				t.Errorf("%s: worth another attempt: %v", name, failed.Retry)
			}
		}
	}
	for want, settings := range map[string]TLS{
		"read tls.ca_file":   {CAFile: filepath.Join(a.dir, "none")},
		"no certificate in":  {CAFile: clientKey},
		"read tls.cert_file": {CertFile: client, KeyFile: filepath.Join(a.dir, "none")},
	} {
		if _, err := New(Settings{URL: "https://127.0.0.1:1", TLS: settings}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestWebPage: who answers with a page took nothing, where the other end is to be a program.
func TestWebPage(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<html>please log in"))
	}))
	t.Cleanup(server.Close)
	for _, strict := range []bool{true, false} {
		client, err := New(Settings{URL: server.URL, Timeout: 5 * time.Second, NoPages: strict})
		if err != nil {
			t.Fatal(err)
		}
		err = client.Post(t.Context(), []byte("{}"), nil)
		if (err != nil) != strict || err != nil && !strings.Contains(err.Error(), "check the URL") {
			t.Errorf("strict %v: %v", strict, err)
		}
	}
}

// TestNothingSecretShows: neither in errors of connections nor of configurations.
func TestNothingSecretShows(t *testing.T) {
	t.Parallel()
	const secret = "s3cret"
	client, err := New(Settings{URL: "http://127.0.0.1:1/services/" + secret + "?token=" + secret, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		client.Post(t.Context(), nil, nil),
		ValidateURL("ftp://host/" + secret), ValidateURL("http://me:" + secret + "@host/"), ValidateURL("http://[" + secret),
	} {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the credentials went along: %v", r.Header)
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	client, err := New(Settings{URL: server.URL, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Post(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Error(err)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "99999": maxRetryAfter, "99999999999999999999": 0,
		"Sat, 14 Mar 2026 15:09:36 GMT": 10 * time.Second, "Sat, 14 Mar 2020 15:09:36 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestReadSecret(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"a": "a", "a\n": "a", "a\r\nb": "a", "": "", "\n": ""} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadSecret(path); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
