// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"math"
	"net/http"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Why a request is refused, as a metric's label.
const (
	reasonAccepted  = "accepted"
	reasonMalformed = "malformed"
	reasonTooLarge  = "too_large"
	reasonRate      = "rate"
	reasonBusy      = "busy"
	reasonProtocol  = "protocol"
	reasonCancelled = "cancelled"
	reasonInternal  = "internal"
)

// reasons is all of them.
func reasons() []string {
	return []string{
		reasonAccepted, reasonMalformed, reasonTooLarge, reasonRate, reasonBusy, reasonProtocol, reasonCancelled, reasonInternal,
	}
}

// refusal is why a request was not taken, in the words of both protocols.
type refusal struct {
	reason, message string
	http            int
	grpc            codes.Code
	// retry is when to come back; 0 for never: the same request will not be taken.
	retry time.Duration
}

func (r *refusal) Error() string { return r.message }

func malformed(message string) *refusal {
	return &refusal{reason: reasonMalformed, message: message, http: http.StatusBadRequest, grpc: codes.InvalidArgument}
}

func wrongProtocol(status int, message string) *refusal {
	return &refusal{reason: reasonProtocol, message: message, http: status, grpc: codes.InvalidArgument}
}

func tooLarge(message string) *refusal {
	return &refusal{reason: reasonTooLarge, message: message, http: http.StatusRequestEntityTooLarge, grpc: codes.ResourceExhausted}
}

// overloaded tells the sender to come back. The codes are those that the protocol says to be tried again.
func overloaded(reason, message string, after time.Duration) *refusal {
	return &refusal{
		reason: reason, message: message, http: http.StatusTooManyRequests, grpc: codes.ResourceExhausted, retry: max(after, time.Millisecond),
	}
}

func cancelled() *refusal {
	return &refusal{reason: reasonCancelled, message: "the sender did not wait", http: http.StatusRequestTimeout, grpc: codes.Canceled}
}

func internal() *refusal {
	return &refusal{reason: reasonInternal, message: "the receiver failed on this request", http: http.StatusInternalServerError, grpc: codes.Internal}
}

// status is the refusal as gRPC has it. Without RetryInfo RESOURCE_EXHAUSTED is for good.
func (r *refusal) status() *status.Status {
	s := status.New(r.grpc, r.message)
	if r.retry == 0 {
		return s
	}
	var detail protoadapt.MessageV1 = &errdetails.RetryInfo{RetryDelay: durationpb.New(r.retry)}
	if with, err := s.WithDetails(detail); err == nil {
		return with
	}
	return s
}

// seconds is when to come back, as HTTP has it.
func (r *refusal) seconds() int { return int(math.Ceil(r.retry.Seconds())) }
