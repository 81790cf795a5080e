// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

type grpcTransport struct {
	conn    *grpc.ClientConn
	method  string
	headers metadata.MD
	options []grpc.CallOption
}

func newGRPCTransport(s signal, dest Destination) (*grpcTransport, error) {
	host, address, secure, err := dest.address()
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if secure {
		cfg, err := dest.TLS.config(host)
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(cfg)
	}
	conn, err := grpc.NewClient("dns:///"+address,
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),              // as over HTTP: a proxy of the environment is not the operator's word
		grpc.WithDisableServiceConfig(), // a TXT record of the network shall not change how we send
		grpc.WithDisableRetry(),         // sender retries
		grpc.WithUserAgent("watchglass"))
	if err != nil {
		return nil, fmt.Errorf("set up gRPC: %w", err)
	}
	t := &grpcTransport{conn: conn, method: s.method, headers: metadata.New(dest.Headers)}
	if dest.Compression == CompressionGzip {
		t.options = append(t.options, grpc.UseCompressor(gzip.Name))
	}
	return t, nil
}

func (t *grpcTransport) send(ctx context.Context, request, response proto.Message) error {
	err := t.conn.Invoke(metadata.NewOutgoingContext(ctx, t.headers), t.method, request, response, t.options...)
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	failed := &attemptError{err: status.Error(s.Code(), printable(s.Message()))}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			failed.after = max(0, info.GetRetryDelay().AsDuration())
			failed.retry = true
		}
	}
	// The codes that the OTLP specification lets a client retry; RESOURCE_EXHAUSTED only with RetryInfo.
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		failed.retry = true
	case codes.ResourceExhausted:
	default:
		failed.retry = false
	}
	return failed
}

func (t *grpcTransport) close() error { return t.conn.Close() }
