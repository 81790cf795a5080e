// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// logsToJSON is an encoded ExportLogsServiceRequest in OTLP's JSON, for the receivers that take nothing else. It
// goes by the generated types, and costs what they cost.
func logsToJSON(request []byte) ([]byte, error) {
	var message collogs.ExportLogsServiceRequest
	if err := proto.Unmarshal(request, &message); err != nil {
		return nil, fmt.Errorf("encode the request as JSON: %w", err)
	}
	for _, group := range message.GetResourceLogs() {
		for _, scope := range group.GetScopeLogs() {
			for _, record := range scope.GetLogRecords() {
				record.TraceId, record.SpanId = hexadecimal(record.GetTraceId()), hexadecimal(record.GetSpanId())
			}
		}
	}
	text, err := protojson.MarshalOptions{UseEnumNumbers: true}.Marshal(&message)
	if err != nil {
		return nil, fmt.Errorf("encode the request as JSON: %w", err)
	}
	return text, nil
}

// hexadecimal is the bytes that protobuf's JSON, which writes base64, shows as id in hexadecimal, which OTLP's
// JSON wants: the digits are base64 too, and of 8 or 16 bytes they are as many as base64 needs.
func hexadecimal(id []byte) []byte {
	bytes, err := base64.StdEncoding.DecodeString(hex.EncodeToString(id))
	if err != nil {
		return nil // of an id of another length, which is none
	}
	return bytes
}

// responseFromJSON is an ExportLogsServiceResponse in protobuf.
func responseFromJSON(text []byte) ([]byte, error) {
	var message collogs.ExportLogsServiceResponse
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, &message); err != nil {
		return nil, fmt.Errorf("the answer is not OTLP: %w", err)
	}
	response, err := proto.Marshal(&message)
	if err != nil {
		return nil, fmt.Errorf("the answer is not OTLP: %w", err)
	}
	return response, nil
}
