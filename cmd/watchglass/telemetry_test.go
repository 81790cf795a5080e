// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	receiver "github.com/watchglass/watchglass/collector/agent/otlp"
	"github.com/watchglass/watchglass/internal/testenv"
)

// senderVariable makes the test binary an agent that tells of one prompt over each way there is.
const senderVariable = "WATCHGLASS_TEST_SENDER"

func runSender() int {
	for _, send := range []func() error{
		func() error { return sendHTTP(http.DefaultClient, os.Getenv(otlpEndpointVariable), 1) },
		sendGRPC,
		func() error {
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", os.Getenv(otlpSocketVariable))
			}}}
			return sendHTTP(client, "http://agents", 3)
		},
	} {
		if err := send(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func prompt(length int64) plogotlp.ExportRequest {
	logs := plog.NewLogs()
	rl := logs.ResourceLogs().AppendEmpty()
	rl.Resource().Attributes().PutStr("service.name", "codex_exec")
	rl.Resource().Attributes().PutStr("watchglass.sandbox.id", "forged")
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName("codex_otel.log_only")
	lr := sl.LogRecords().AppendEmpty()
	lr.Attributes().PutStr("event.name", "codex.user_prompt")
	lr.Attributes().PutInt("prompt_length", length)
	lr.Attributes().PutStr("conversation.id", "c1")
	return plogotlp.NewExportRequestFromLogs(logs)
}

func sendHTTP(client *http.Client, url string, length int64) error {
	body, err := prompt(length).MarshalProto()
	if err != nil {
		return err
	}
	answer, err := client.Post(url+"/v1/logs", "application/x-protobuf", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", answer.Status)
	}
	return nil
}

func sendGRPC() error {
	c, err := grpc.NewClient(strings.TrimPrefix(os.Getenv(otlpGRPCEndpointVariable), "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = plogotlp.NewGRPCClient(c).Export(context.Background(), prompt(2), grpc.UseCompressor("gzip"))
	return err
}

// TestKernelClaimsOverOTLP has a process of a session tell of prompts: they are events of the session's sandbox and
// of that very process, whatever the resource says.
func TestKernelClaimsOverOTLP(t *testing.T) {
	testenv.RequireEBPF(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	events, config := filepath.Join(t.TempDir(), "events.jsonl"), filepath.Join(t.TempDir(), "config.yaml")
	relayed, endpoint := relayBackend(t)
	text := "log: {level: warn}\nclaims: {otlp: {relay: {endpoint: \"" + endpoint + "\", protocol: http/protobuf, compression: none}}}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "run", "--quiet", "--config", config, "--json", events, "--", self)
	cmd.Env = append(os.Environ(), senderVariable+"=1")
	if got := finish(t, cmd); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	lines := readLines(t, events)
	var executed line
	var lengths []string
	for _, l := range lines {
		switch l.Event {
		case "watchglass.process.exec":
			if slices.Equal(l.args(), []string{self}) {
				executed = l
			}
		case "watchglass.prompt":
			lengths = append(lengths, fmt.Sprint(l.Attributes["watchglass.agent.prompt.length"]))
			if l.Resource["watchglass.sandbox.id"] != executed.Resource["watchglass.sandbox.id"] || l.Attributes["watchglass.claim.sender"] != "owner" ||
				l.Attributes["watchglass.process.uid"] != executed.Attributes["watchglass.process.uid"] || executed.Event == "" {
				t.Errorf("not the sender's: %v of %v", l.Attributes, l.Resource)
			}
		}
	}
	if slices.Sort(lengths); !slices.Equal(lengths, []string{"1", "2", "3"}) {
		t.Errorf("told of prompts %v", lengths)
	}
	// The backend got the same, and who sent it by the kernel's word.
	host, _ := os.Hostname()
	sandboxes := relayed()
	if len(sandboxes) != 3 {
		t.Fatalf("%d requests were sent on", len(sandboxes))
	}
	for _, resource := range sandboxes {
		if resource["watchglass.sandbox.id"] != executed.Resource["watchglass.sandbox.id"] || resource["host.name"] != host || resource["service.name"] != "codex_exec" {
			t.Errorf("sent on as of %v", resource)
		}
	}
}

// relayBackend is a server for OTLP logs over HTTP, and the resources of what it got.
func relayBackend(t *testing.T) (resources func() []map[string]any, endpoint string) {
	t.Helper()
	var mu sync.Mutex
	var got []map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		request := plogotlp.NewExportRequest()
		if err := request.UnmarshalProto(body); err != nil || r.URL.Path != "/v1/logs" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rl := range request.Logs().ResourceLogs().All() {
			got = append(got, rl.Resource().Attributes().AsRaw())
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	return func() []map[string]any {
		mu.Lock()
		defer mu.Unlock()
		return got
	}, server.URL
}

func TestReceiverURL(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:4318": "http://127.0.0.1:4318", "0.0.0.0:1": "http://127.0.0.1:1", "[::]:1": "http://127.0.0.1:1",
		":1": "http://127.0.0.1:1", "[::1]:1": "http://[::1]:1", "": "",
	} {
		c := telemetryConfig{Enabled: true, Config: receiver.Config{HTTP: address}}
		if got := c.url(); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

func TestSessionsDoNotMeet(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := taken.Addr().String()
	if got := unlessTaken(address, address); got != "127.0.0.1:0" {
		t.Errorf("the default address, which is taken: %s", got)
	}
	if got := unlessTaken(address, "127.0.0.1:1"); got != address {
		t.Errorf("another address, which is asked for: %s", got)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if got := unlessTaken(address, address); got != address {
		t.Errorf("the default address, which is free: %s", got)
	}
	c := telemetryConfig{Config: receiver.DefaultConfig()}.forSession()
	if c.Socket != filepath.Join(sessionDirectory(), "otlp.sock") {
		t.Errorf("%+v", c)
	}
	asked := telemetryConfig{Config: receiver.Config{HTTP: "127.0.0.1:9999"}}.forSession()
	if asked.HTTP != "127.0.0.1:9999" || asked.GRPC != "" || asked.Socket != "" {
		t.Errorf("%+v", asked)
	}
}
