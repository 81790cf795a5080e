// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // the server takes it
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// server is a collector that keeps what it gets. script decides on each request, by its number from 1.
type server struct {
	collogs.UnimplementedLogsServiceServer
	endpoint string
	// grpcScript and httpScript may answer instead of the server. Nil, or a nil result, takes the request.
	grpcScript func(n int) error
	httpScript func(n int, w http.ResponseWriter) bool
	partial    *collogs.ExportLogsPartialSuccess
	// judge may answer for what a request holds: with a partial success, a gRPC error or an HTTP status.
	judge func(*collogs.ExportLogsServiceRequest) (*collogs.ExportLogsPartialSuccess, int, error)
	// forget is true when what came is not kept.
	forget bool
	// address is where to listen, grpcLimit the largest request of gRPC; zero values are any and 4 MiB.
	address   string
	grpcLimit int

	mu       sync.Mutex
	requests int
	logs     []*collogs.ExportLogsServiceRequest
	metrics  []*colmetrics.ExportMetricsServiceRequest
	headers  map[string][]string
	encoding string
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	return s.requests
}

func (s *server) seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// records is every log record that was taken, in order.
func (s *server) records() []*logs.LogRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*logs.LogRecord
	for _, request := range s.logs {
		for _, r := range request.GetResourceLogs() {
			for _, scope := range r.GetScopeLogs() {
				all = append(all, scope.GetLogRecords()...)
			}
		}
	}
	return all
}

func (s *server) Export(ctx context.Context, r *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
	n := s.count()
	if s.grpcScript != nil {
		if err := s.grpcScript(n); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	partial := s.partial
	if s.judge != nil {
		var err error
		if partial, _, err = s.judge(r); err != nil {
			return nil, err
		}
	}
	if !s.forget {
		s.logs = append(s.logs, r)
	}
	s.headers, _ = metadata.FromIncomingContext(ctx)
	if encoding := s.headers["grpc-encoding"]; len(encoding) > 0 {
		s.encoding = encoding[0]
	}
	return &collogs.ExportLogsServiceResponse{PartialSuccess: partial}, nil
}

type metricsServer struct {
	colmetrics.UnimplementedMetricsServiceServer
	*server
}

func (s metricsServer) Export(_ context.Context, r *colmetrics.ExportMetricsServiceRequest) (*colmetrics.ExportMetricsServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics = append(s.metrics, r)
	return &colmetrics.ExportMetricsServiceResponse{}, nil
}

func (s *server) startGRPC(t testing.TB, cfg *tls.Config) {
	t.Helper()
	listener := s.listen(t)
	var options []grpc.ServerOption
	options = append(options, grpc.RPCDecompressor(decompressor{CompressionZstd})) //nolint:staticcheck // as the client's
	if s.grpcLimit > 0 {
		options = append(options, grpc.MaxRecvMsgSize(s.grpcLimit))
	}
	s.endpoint = "http://" + listener.Addr().String()
	if cfg != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(cfg)))
		s.endpoint = "https://" + listener.Addr().String()
	}
	g := grpc.NewServer(options...)
	collogs.RegisterLogsServiceServer(g, s)
	colmetrics.RegisterMetricsServiceServer(g, metricsServer{server: s})
	go func() { _ = g.Serve(listener) }()
	t.Cleanup(g.Stop)
}

func (s *server) listen(t testing.TB) net.Listener {
	t.Helper()
	if s.address == "" {
		s.address = "127.0.0.1:0"
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", s.address)
	if err != nil {
		panic(err) // not Fatal: a test may start one in another goroutine
	}
	return listener
}

func (s *server) startHTTP(t testing.TB, cfg *tls.Config) {
	t.Helper()
	h := httptest.NewUnstartedServer(s)
	_ = h.Listener.Close()
	h.Listener = s.listen(t)
	h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if cfg != nil {
		h.TLS = cfg
		h.StartTLS()
	} else {
		h.Start()
	}
	s.endpoint = h.URL
	t.Cleanup(h.Close)
}

// ServeHTTP takes OTLP over HTTP.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.count()
	if s.httpScript != nil && s.httpScript(n, w) {
		return
	}
	body, err := readBody(r)
	kind := r.Header.Get("Content-Type")
	if err == nil && kind == contentTypeJSON {
		body, err = fromJSON(body)
	}
	if err != nil || kind != contentType && kind != contentTypeJSON {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.encoding = r.Header.Get("Content-Encoding")
	s.headers = map[string][]string{}
	for name, values := range r.Header {
		s.headers[strings.ToLower(name)] = values
	}
	var answer proto.Message
	switch r.URL.Path {
	case "/v1/logs":
		var request collogs.ExportLogsServiceRequest
		err = proto.Unmarshal(body, &request)
		partial, code := s.partial, 0
		if s.judge != nil && err == nil {
			if partial, code, _ = s.judge(&request); code != 0 {
				w.WriteHeader(code)
				return
			}
		}
		if !s.forget {
			s.logs = append(s.logs, &request)
		}
		answer = &collogs.ExportLogsServiceResponse{PartialSuccess: partial}
	case "/v1/metrics":
		var request colmetrics.ExportMetricsServiceRequest
		err = proto.Unmarshal(body, &request)
		s.metrics = append(s.metrics, &request)
		answer = &colmetrics.ExportMetricsServiceResponse{}
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	text, _ := proto.Marshal(answer)
	if kind == contentTypeJSON {
		text, _ = protojson.Marshal(answer)
		kind += "; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(text)
}

// fromJSON is a request in OTLP's JSON, whose ids are hexadecimal, in protobuf.
func fromJSON(text []byte) ([]byte, error) {
	var request collogs.ExportLogsServiceRequest
	if err := protojson.Unmarshal(text, &request); err != nil {
		return nil, err
	}
	for _, group := range request.GetResourceLogs() {
		for _, record := range group.GetScopeLogs()[0].GetLogRecords() {
			for _, id := range []*[]byte{&record.TraceId, &record.SpanId} {
				var err error
				if *id, err = hex.DecodeString(base64.StdEncoding.EncodeToString(*id)); err != nil {
					return nil, err
				}
			}
		}
	}
	return proto.Marshal(&request)
}

func readBody(r *http.Request) ([]byte, error) {
	switch r.Header.Get("Content-Encoding") {
	case "gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	case "zstd":
		z, err := zstd.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return io.ReadAll(z)
	}
	return io.ReadAll(r.Body)
}

// authority signs certificates for 127.0.0.1 and for clients.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// caFile, certFile and keyFile are PEM files: of the authority, and of a client.
	caFile, certFile, keyFile string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = certificate(t, template, template, nil)
	a.caFile = a.write(t, "ca.pem", "CERTIFICATE", a.cert.Raw)
	leaf, key := a.issue(t, time.Now().Add(time.Hour))
	a.certFile = a.write(t, "client.pem", "CERTIFICATE", leaf.Raw)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.keyFile = a.write(t, "client.key", "PRIVATE KEY", der)
	return a
}

// issue makes a certificate that serves for both ends.
func (a *authority) issue(t *testing.T, until time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	return certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
}

// config is a server's, with a certificate valid until then, that asks for a client's when mutual.
func (a *authority) config(t *testing.T, until time.Time, mutual bool) *tls.Config {
	t.Helper()
	leaf, key := a.issue(t, until)
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}},
	}
	if mutual {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		cfg.ClientCAs = x509.NewCertPool()
		cfg.ClientCAs.AddCert(a.cert)
	}
	return cfg
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate signs template with a new key; without a signer's key it signs itself.
func certificate(t *testing.T, template, signer *x509.Certificate, signerKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signerKey == nil {
		signerKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), signerKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
