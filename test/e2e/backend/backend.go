// SPDX-License-Identifier: Apache-2.0

// Package backend is a real OpenTelemetry Collector for tests: built from its modules, started, killed, and
// asked what arrived.
//
// It owns the binary's cache and the processes that it starts. It must not know what is sent, beyond OTLP.
package backend

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Build makes the Collector, or finds the one that was made of the same sources. root is the repository's.
func Build(root string) (string, error) {
	source := filepath.Join(root, "test", "e2e", "otelcol")
	sum := sha256.New()
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", fmt.Errorf("build the OpenTelemetry Collector: %w", err)
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
	}
	path, err := filepath.Abs(filepath.Join(root, ".cache", "otelcol-"+hex.EncodeToString(sum.Sum(nil)[:8])))
	if err != nil {
		return "", fmt.Errorf("build the OpenTelemetry Collector: %w", err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// Under another name first: a build that is cut short leaves nothing that looks finished.
	command := exec.Command("go", "build", "-ldflags", "-s -w", "-buildvcs=false", "-o", path+".new", ".")
	command.Dir = source
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the OpenTelemetry Collector: %w\n%s", err, output)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", fmt.Errorf("build the OpenTelemetry Collector: %w", err)
	}
	return path, nil
}

// Collector is a running OpenTelemetry Collector.
type Collector struct {
	command *exec.Cmd
	output  buffer
	done    chan struct{}
}

// buffer is what a process writes, read while it does.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Start starts a Collector with the configurations, and waits until it listens at address.
func Start(path, address string, configs ...string) (*Collector, error) {
	return StartWith(path, address, nil, configs...)
}

// StartWith is Start with additions to the environment.
func StartWith(path, address string, environment []string, configs ...string) (*Collector, error) {
	var args []string
	for _, c := range configs {
		args = append(args, "--config", c)
	}
	c := &Collector{command: exec.Command(path, args...), done: make(chan struct{})}
	c.command.Env = append(os.Environ(), environment...)
	c.command.Stdout, c.command.Stderr = &c.output, &c.output
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.command.Start(); err != nil {
		return nil, fmt.Errorf("start the OpenTelemetry Collector: %w", err)
	}
	go func() {
		_ = c.command.Wait()
		close(c.done)
	}()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-c.done:
			return nil, fmt.Errorf("the OpenTelemetry Collector ended:\n%s", c.output.String())
		default:
		}
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			_ = conn.Close()
			return c, nil
		}
	}
	c.Kill()
	return nil, fmt.Errorf("the OpenTelemetry Collector does not listen at %s:\n%s", address, c.output.String())
}

// Output is what it wrote.
func (c *Collector) Output() string { return c.output.String() }

// Signal sends a signal: SIGSTOP makes it stall.
func (c *Collector) Signal(s syscall.Signal) error { return c.command.Process.Signal(s) }

// Kill ends it at once.
func (c *Collector) Kill() {
	_ = c.command.Process.Kill()
	<-c.done
}

// Stop ends it in its own time, and returns when it has written everything.
func (c *Collector) Stop() {
	_ = c.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(20 * time.Second):
		c.Kill()
	}
}

// FileConfig is a configuration that writes the logs that arrive by gRPC and by HTTP into file, for Records to read, and
// the spans into SpansFile(file), for Spans.
func FileConfig(grpc, http, file string) string {
	return fmt.Sprintf(`
receivers:
  otlp: {protocols: {grpc: {endpoint: %q, max_recv_msg_size_mib: 16}, http: {endpoint: %q}}}
exporters:
  file: {path: %q, format: proto, append: true}
  file/spans: {path: %q, format: proto, append: true}
  debug: {}
service:
  telemetry: {metrics: {level: none}, logs: {level: warn}}
  pipelines:
    logs: {receivers: [otlp], exporters: [file]}
    traces: {receivers: [otlp], exporters: [file/spans]}
    metrics: {receivers: [otlp], exporters: [debug]}
`, grpc, http, file, SpansFile(file))
}

// SpansFile is where a Collector with FileConfig writes spans.
func SpansFile(file string) string { return file + ".spans" }

// Spans reads the spans that a Collector wrote into a file with FileConfig, with their resources' attributes.
func Spans(file string, each func(resource map[string]string, span *trace.Span)) error {
	return messages(SpansFile(file), func(message []byte) error {
		var request coltrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(message, &request); err != nil {
			return fmt.Errorf("read what arrived: %w", err)
		}
		for _, resource := range request.GetResourceSpans() {
			attributes := Attributes(resource.GetResource().GetAttributes())
			for _, scope := range resource.GetScopeSpans() {
				for _, span := range scope.GetSpans() {
					each(attributes, span)
				}
			}
		}
		return nil
	})
}

// Records reads the log records that a Collector wrote into a file with FileConfig, with their resources'
// attributes. What a kill left half written at the end is not one.
func Records(file string, each func(resource map[string]string, record *logs.LogRecord)) error {
	return messages(file, func(message []byte) error {
		var request collogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(message, &request); err != nil {
			return fmt.Errorf("read what arrived: %w", err)
		}
		for _, resource := range request.GetResourceLogs() {
			attributes := Attributes(resource.GetResource().GetAttributes())
			for _, scope := range resource.GetScopeLogs() {
				for _, record := range scope.GetLogRecords() {
					each(attributes, record)
				}
			}
		}
		return nil
	})
}

// messages reads what a Collector wrote: requests, each with its length before it.
func messages(file string, each func(message []byte) error) error {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what arrived: %w", err)
	}
	defer func() { _ = f.Close() }()
	const most = 64 << 20
	for {
		var size [4]byte
		if _, err := io.ReadFull(f, size[:]); err != nil {
			return nil // the end
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > most {
			return fmt.Errorf("read what arrived: a message of %d bytes", n)
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(f, message); err != nil {
			return nil // half written
		}
		if err := each(message); err != nil {
			return err
		}
	}
}

// Attributes is attributes as text.
func Attributes(list []*common.KeyValue) map[string]string {
	m := make(map[string]string, len(list))
	for _, a := range list {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[a.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			m[a.GetKey()] = fmt.Sprint(v.IntValue)
		case *common.AnyValue_ArrayValue:
			var parts []string
			for _, part := range v.ArrayValue.GetValues() {
				parts = append(parts, part.GetStringValue())
			}
			m[a.GetKey()] = strings.Join(parts, "\n")
		}
	}
	return m
}
