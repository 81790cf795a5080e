// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type grpcTransport struct {
	conn    *grpc.ClientConn
	dial    func() (*grpc.ClientConn, error)
	method  string
	headers *headerSource
}

func newGRPCTransport(s signal, dest Destination, headers *headerSource) (*grpcTransport, error) {
	host, address, secure, err := dest.address()
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if secure {
		if _, err := dest.TLS.config(host); err != nil {
			return nil, err
		}
		creds = renewed{credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}), dest.TLS, host}
	}
	compressor, err := newCompressor(dest.Compression)
	if err != nil {
		return nil, err
	}
	patience := backoff.DefaultConfig
	patience.MaxDelay = maxReconnect
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),              // as over HTTP: a proxy of the environment is not the operator's word
		grpc.WithDisableServiceConfig(), // a TXT record of the network shall not change how we send
		grpc.WithDisableRetry(),         // we retry ourselves
		grpc.WithUserAgent("watchglass"),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxResponseBytes)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: patience, MinConnectTimeout: dest.Timeout}),
	}
	if compressor != nil {
		// The other way registers compressors for the whole program, which only an init() may do.
		options = append(options, grpc.WithCompressor(compressor), //nolint:staticcheck // see above; it stays in 1.x
			grpc.WithDecompressor(decompressor{dest.Compression})) //nolint:staticcheck // likewise
	}
	t := &grpcTransport{method: s.method, headers: headers, dial: func() (*grpc.ClientConn, error) {
		return grpc.NewClient("dns:///"+address, options...)
	}}
	if t.conn, err = t.dial(); err != nil {
		return nil, fmt.Errorf("set up gRPC: %w", err)
	}
	return t, nil
}

func (t *grpcTransport) send(ctx context.Context, request []byte) ([]byte, error) {
	headers, err := t.headers.get()
	if err != nil {
		return nil, &attemptError{err: err, verdict: blocked}
	}
	var response []byte
	err = t.conn.Invoke(metadata.NewOutgoingContext(ctx, metadata.New(headers)), t.method, request, &response)
	if err == nil {
		return response, nil
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.reconnect()
	}
	s := status.Convert(err)
	failed := &attemptError{err: status.Error(s.Code(), printable(s.Message())), verdict: grpcVerdict(s)}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok && failed.verdict == later {
			failed.after = min(max(0, info.GetRetryDelay().AsDuration()), maxRetryAfter)
		}
	}
	return nil, failed
}

// reconnect gives up a connection on which nothing comes back: it may be one that a firewall forgot, and TCP
// would go on sending into it for a quarter of an hour.
func (t *grpcTransport) reconnect() {
	conn, err := t.dial()
	if err != nil {
		return // it worked at the start with the same options
	}
	_ = t.conn.Close()
	t.conn = conn
}

// grpcVerdict is what a status says, by the OTLP specification's table where it has the code.
func grpcVerdict(s *status.Status) verdict {
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		return later
	case codes.ResourceExhausted:
		for _, detail := range s.Details() {
			if _, ok := detail.(*errdetails.RetryInfo); ok {
				return later // it will recover, the server says
			}
		}
		if message := s.Message(); strings.Contains(message, "larger than max") || strings.Contains(message, "too large") {
			return tooLarge
		}
		return blocked // a quota, which the same data may pass tomorrow
	case codes.InvalidArgument:
		return refused
	case codes.Internal, codes.Unknown:
		return unclear
	default:
		return blocked
	}
}

func (t *grpcTransport) close() error { return t.conn.Close() }

// rawCodec passes encoded messages through.
type rawCodec struct{}

// Marshal implements encoding.CodecV2 for []byte.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("a request is bytes, not %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(message)}, nil
}

// Unmarshal implements encoding.CodecV2 for *[]byte.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("a response is bytes, not %T", v)
	}
	*message = data.Materialize()
	return nil
}

// Name implements encoding.CodecV2: on the wire it is protobuf.
func (rawCodec) Name() string { return "proto" }

// renewed reads the certificates' files anew for each connection.
type renewed struct {
	credentials.TransportCredentials
	files TLS
	host  string
}

// ClientHandshake implements credentials.TransportCredentials.
func (r renewed) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := r.files.config(r.host)
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn) //nolint:wrapcheck // gRPC's own
}

// Clone implements credentials.TransportCredentials.
func (r renewed) Clone() credentials.TransportCredentials { return r }
