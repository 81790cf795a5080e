// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Headers is names and values whose values are secrets: however it is printed, only the names show. A value
// may hold ${env:NAME}, which is the environment variable's value when the destination is opened.
type Headers map[string]string

// String is the names.
func (h Headers) String() string {
	return "[" + strings.Join(slices.Sorted(maps.Keys(h)), " ") + "]"
}

// GoString is the names.
func (h Headers) GoString() string { return h.String() }

// LogValue is the names.
func (h Headers) LogValue() slog.Value { return slog.StringValue(h.String()) }

// MarshalText keeps the values out of everything that is written from a Config.
func (h Headers) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// expand puts environment variables' values in, and makes names lower-case: they are the same in any case, so
// that a file's can win. Its errors name the variable, never a value.
func (h Headers) expand(lookup func(string) (string, bool)) (Headers, error) {
	expanded := make(Headers, len(h))
	for name, value := range h {
		full, err := expand(value, lookup)
		if err != nil {
			return nil, fmt.Errorf("headers: %q: %w", name, err)
		}
		if !validHeader(name, full) {
			return nil, fmt.Errorf("headers: %q or its value has characters that a header cannot have", name)
		}
		expanded[strings.ToLower(name)] = full
	}
	return expanded, nil
}

// expand replaces each ${env:NAME} of value.
func expand(value string, lookup func(string) (string, bool)) (string, error) {
	var full strings.Builder
	for {
		before, rest, found := strings.Cut(value, "${env:")
		full.WriteString(before)
		if !found {
			return full.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || name == "" {
			return "", errors.New("${env: is not followed by a name and }")
		}
		if lookup == nil {
			return "", fmt.Errorf("there is no environment to take %s from", name)
		}
		set, ok := lookup(name)
		if !ok || set == "" {
			return "", fmt.Errorf("the environment variable %s is not set", name)
		}
		full.WriteString(set)
		value = after
	}
}

// headerSource is the headers of a destination: the configured ones, and those of a file that may change
// while we run, as tokens do. It is not for use by more than one goroutine.
type headerSource struct {
	fixed, all Headers
	path       string
	// modified and size are the file's when it was read.
	modified time.Time
	size     int64
}

func newHeaderSource(dest *Destination, lookup func(string) (string, bool)) (*headerSource, error) {
	fixed, err := dest.Headers.expand(lookup)
	if err != nil {
		return nil, err
	}
	h := &headerSource{fixed: fixed, all: fixed, path: dest.HeadersFile}
	if _, err := h.get(); err != nil {
		return nil, err
	}
	return h, nil
}

// get is the headers now.
func (h *headerSource) get() (Headers, error) {
	if h.path == "" {
		return h.all, nil
	}
	info, err := os.Stat(h.path)
	if err != nil {
		return nil, fmt.Errorf("read headers_file: %w", err)
	}
	if info.ModTime().Equal(h.modified) && info.Size() == h.size {
		return h.all, nil
	}
	read, err := readHeaders(h.path)
	if err != nil {
		return nil, err
	}
	h.all = maps.Clone(h.fixed)
	maps.Copy(h.all, read)
	h.modified, h.size = info.ModTime(), info.Size()
	return h.all, nil
}

// maxHeadersFile bounds what is read of a headers file: the wrong one may have been named.
const maxHeadersFile = 64 << 10

// readHeaders reads lines "Name: value". Empty lines and those that begin with # say nothing.
func readHeaders(path string) (Headers, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read headers_file: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxHeadersFile+1))
	if err != nil {
		return nil, fmt.Errorf("read headers_file: %w", err)
	}
	if len(text) > maxHeadersFile {
		return nil, fmt.Errorf("read headers_file: %s is larger than %d bytes", path, maxHeadersFile)
	}
	headers, err := parseHeaders(string(text))
	if err != nil {
		return nil, fmt.Errorf("read headers_file: %s:%w", path, err)
	}
	return headers, nil
}

// parseHeaders parses the lines. Its error begins with the line's number, and shows no value.
func parseHeaders(text string) (Headers, error) {
	headers := Headers{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !validHeader(name, value) {
			return nil, fmt.Errorf("%d: not a line like Authorization: Bearer …", number)
		}
		headers[strings.ToLower(name)] = value
	}
	return headers, nil
}
