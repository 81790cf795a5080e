// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// remedy says what a person can do about an error, as the end of a message, or "".
func remedy(err error, dest Destination) string {
	if advice := advice(err, dest); advice != "" {
		return ": " + advice
	}
	return ""
}

func advice(err error, dest Destination) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	message := err.Error()
	contains := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(message, part) {
				return true
			}
		}
		return false
	}
	// gRPC gives back the reason of a failed handshake as text only.
	switch {
	case errors.As(err, &unknown), contains("unknown authority"):
		return "set tls.ca_file (OTEL_EXPORTER_OTLP_CERTIFICATE) to the authority that signed the server's certificate"
	case errors.As(err, &host), contains("certificate is valid for", "doesn't contain any IP SANs"):
		return "use a host name in the endpoint that is in the server's certificate"
	case errors.As(err, &invalid), contains("certificate has expired"):
		return "the server needs a valid certificate; compare the clocks"
	case contains("certificate required", "bad certificate", "unknown certificate"):
		return "the server wants a client certificate it trusts: set tls.cert_file and tls.key_file"
	case strings.HasPrefix(dest.Endpoint, "https:") && contains("broken pipe", "connection reset by peer"):
		return "the server hung up after the TLS handshake: if it wants a client certificate, set tls.cert_file and tls.key_file"
	case errors.As(err, &record), contains("first record does not look like a TLS handshake", "server gave HTTP response to HTTPS client"):
		return "the server does not speak TLS: use http:// in the endpoint, or enable TLS there"
	case errors.Is(err, syscall.ECONNREFUSED), contains("connection refused"):
		return "nothing listens there: is the OpenTelemetry Collector running, and is the port right?"
	case errors.As(err, &dns), contains("no such host"):
		return "the host name cannot be resolved"
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded, contains("deadline exceeded"):
		return "the server did not answer within the timeout of " + dest.Timeout.String()
	case contains("HTTP 401", "HTTP 403"), status.Code(err) == codes.Unauthenticated, status.Code(err) == codes.PermissionDenied:
		return "check the credentials in headers (OTEL_EXPORTER_OTLP_HEADERS)"
	case contains("HTTP 415", "Decompressor is not installed"):
		return "the server does not take the compression " + dest.Compression + ": set another one, or none"
	case contains("the answer is not OTLP"):
		return "somebody else than an OTLP receiver listens there: check the endpoint and the protocol"
	case contains("HTTP 413"):
		return "the server takes smaller requests only"
	case contains("HTTP 404", "HTTP 405"), status.Code(err) == codes.Unimplemented:
		return "the server does not take this signal at this endpoint: check its path and the protocol"
	case contains("HTTP/1.x transport connection broken: malformed HTTP response", "error reading server preface",
		"HTTP/1.1 response", "malformed HTTP"), contains("unexpected HTTP status code received from server"):
		return "the other end speaks another protocol: port 4317 is usually for grpc, 4318 for http/protobuf"
	}
	return ""
}
