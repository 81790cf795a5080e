// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"

	clogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	cmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	ctraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var (
	errDepth    = fmt.Errorf("nested deeper than %d", maxDepth)
	errElements = fmt.Errorf("more than %d elements", maxElements)
	errProtobuf = errors.New("not protobuf")
)

// descriptor is the schema of a signal's request.
func descriptor(s Signal) protoreflect.MessageDescriptor {
	switch s {
	case Logs:
		return (*clogs.ExportLogsServiceRequest)(nil).ProtoReflect().Descriptor()
	case Traces:
		return (*ctraces.ExportTraceServiceRequest)(nil).ProtoReflect().Descriptor()
	default:
		return (*cmetrics.ExportMetricsServiceRequest)(nil).ProtoReflect().Descriptor()
	}
}

// guard bounds what decoding a body would cost, before it is decoded: an empty element of two bytes becomes a
// hundred in memory, and a decoder calls itself once for each level. It looks at nothing but lengths.
type guard struct{ elements int }

// protobuf walks through a message by its schema. Unknown fields and what is packed count as one element.
func (g *guard) protobuf(b []byte, schema protoreflect.MessageDescriptor, depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	for len(b) > 0 {
		if g.elements++; g.elements > maxElements {
			return errElements
		}
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errProtobuf
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
				return errProtobuf
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return errProtobuf
		}
		b = b[n:]
		if field := schema.Fields().ByNumber(number); field != nil && field.Kind() == protoreflect.MessageKind {
			if err := g.protobuf(value, field.Message(), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// json counts what a decoder of JSON would make: objects, lists, and values in them.
func (g *guard) json(b []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		if inString {
			switch b[i] {
			case '\\':
				i++
			case '"':
				inString = false
			}
			continue
		}
		switch b[i] {
		case '"':
			inString = true
		case '{', '[':
			// A message is an object, and a list of messages another level: twice as deep as protobuf.
			if depth++; depth > 2*maxDepth {
				return errDepth
			}
			g.elements++
		case '}', ']':
			depth--
		case ',':
			g.elements++
		}
		if g.elements > maxElements {
			return errElements
		}
	}
	return nil
}
