// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"io"
	"time"

	clogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	cmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	ctraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // agents pack what they send
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// windowBytes bounds what the transport takes of a request before anybody decided to read it.
const windowBytes = 256 << 10

func (r *Receiver) newGRPC() *grpc.Server {
	s := grpc.NewServer(
		grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(r.cfg.MaxBodyBytes), grpc.MaxHeaderListSize(maxHeader),
		grpc.MaxConcurrentStreams(uint32(r.cfg.SandboxRequests)), grpc.ConnectionTimeout(headerTimeout), //nolint:gosec // validated
		grpc.StaticStreamWindowSize(windowBytes), grpc.StaticConnWindowSize(2*windowBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: time.Minute}))
	for signal, desc := range map[Signal]grpc.ServiceDesc{
		Logs: clogs.LogsService_ServiceDesc, Traces: ctraces.TraceService_ServiceDesc, Metrics: cmetrics.MetricsService_ServiceDesc,
	} {
		// One message each way is a stream of one. As such it is decided on before the message is read.
		s.RegisterService(&grpc.ServiceDesc{
			ServiceName: desc.ServiceName, HandlerType: (*any)(nil), Metadata: desc.Metadata,
			Streams: []grpc.StreamDesc{{
				StreamName: "Export", ClientStreams: true, ServerStreams: true,
				Handler: func(_ any, stream grpc.ServerStream) error { return r.serveGRPC(signal, stream) },
			}},
		}, r)
	}
	return s
}

// rawCodec leaves messages as they are.
type rawCodec struct{}

// Name implements encoding.CodecV2.
func (rawCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("encode %T: not bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("decode into %T: not bytes", v)
	}
	*b = data.Materialize()
	return nil
}

func (r *Receiver) serveGRPC(signal Signal, stream grpc.ServerStream) error {
	from := originOf(stream.Context())
	partial, refused := r.takeGRPC(signal, stream)
	if refused != nil {
		r.stats.request(signal, refused.reason, from)
		r.logRefusal(signal, from, refused)
		return refused.status().Err()
	}
	r.stats.request(signal, reasonAccepted, from)
	body, err := responseTo(signal, partial).MarshalProto()
	if err != nil {
		return internal().status().Err()
	}
	return stream.SendMsg(body)
}

func (r *Receiver) takeGRPC(signal Signal, stream grpc.ServerStream) (uint64, *refusal) {
	from := originOf(stream.Context())
	if refused := r.admission.enter(from.Sandbox, time.Now()); refused != nil {
		return 0, refused
	}
	defer r.admission.leave(from.Sandbox)
	q := request{signal: signal}
	received := make(chan error, 1)
	go func() { received <- stream.RecvMsg(&q.body) }()
	timer := time.NewTimer(readTimeout)
	defer timer.Stop()
	select {
	case err := <-received:
		if err != nil {
			return 0, unreceived(err)
		}
		return r.take(stream.Context(), from, q)
	case <-timer.C: // returning ends the stream, and with it the waiting
		return 0, cancelled()
	}
}

// unreceived is why a message could not be read, as gRPC has it.
func unreceived(err error) *refusal {
	if errors.Is(err, io.EOF) {
		return malformed("there is no message")
	}
	s := status.Convert(err)
	refused := &refusal{reason: reasonMalformed, message: s.Message(), grpc: s.Code()}
	switch s.Code() {
	case codes.ResourceExhausted:
		refused.reason = reasonTooLarge
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		refused.reason = reasonCancelled
	case codes.Unimplemented, codes.InvalidArgument: // a compression that nobody knows, a message that is none
	default:
		refused.grpc = codes.InvalidArgument
	}
	return refused
}
