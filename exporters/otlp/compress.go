// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// compressor makes bodies smaller. It keeps its tables, which are large, and is not for use by more than one
// goroutine.
type compressor struct {
	name string
	gzip *gzip.Writer
	zstd *zstd.Encoder
	// buf is the memory for what zstd makes before it is written.
	buf []byte
}

// newCompressor makes the compressor of that name; nil for none.
func newCompressor(name string) (*compressor, error) {
	c := &compressor{name: name}
	switch name {
	case CompressionGzip:
		c.gzip = gzip.NewWriter(nil)
	case CompressionZstd:
		var err error
		// One goroutine: a request is compressed by the one that sends it.
		c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		if err != nil {
			return nil, fmt.Errorf("set up zstd: %w", err)
		}
	default:
		return nil, nil //nolint:nilnil // none is nothing to do
	}
	return c, nil
}

// compress makes a new slice: a transport may read it still when the attempt is over.
func (c *compressor) compress(body []byte) ([]byte, error) {
	if c == nil {
		return bytes.Clone(body), nil
	}
	if c.zstd != nil {
		return c.zstd.EncodeAll(body, make([]byte, 0, len(body)/4)), nil
	}
	var buf bytes.Buffer
	if err := c.Do(&buf, body); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// Do implements grpc.Compressor.
func (c *compressor) Do(w io.Writer, body []byte) error {
	if c.zstd != nil {
		c.buf = c.zstd.EncodeAll(body, c.buf[:0])
		if _, err := w.Write(c.buf); err != nil {
			return fmt.Errorf("compress the request: %w", err)
		}
		return nil
	}
	c.gzip.Reset(w)
	if _, err := c.gzip.Write(body); err != nil {
		return fmt.Errorf("compress the request: %w", err)
	}
	if err := c.gzip.Close(); err != nil {
		return fmt.Errorf("compress the request: %w", err)
	}
	return nil
}

// Type implements grpc.Compressor: it is the name in the header grpc-encoding.
func (c *compressor) Type() string { return c.name }

// decompressor reads the answers of a gRPC server, which compresses them as it got the request.
type decompressor struct{ name string }

// Do implements grpc.Decompressor. It reads no more than an answer may hold: it is the server's word.
func (d decompressor) Do(r io.Reader) ([]byte, error) {
	var plain io.Reader
	switch d.name {
	case CompressionZstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxResponseBytes))
		if err != nil {
			return nil, fmt.Errorf("set up zstd: %w", err)
		}
		defer z.Close()
		plain = z
	default:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("decompress the answer: %w", err)
		}
		plain = z
	}
	body, err := io.ReadAll(io.LimitReader(plain, maxResponseBytes))
	if err != nil {
		return nil, fmt.Errorf("decompress the answer: %w", err)
	}
	return body, nil
}

// Type implements grpc.Decompressor.
func (d decompressor) Type() string { return d.name }
