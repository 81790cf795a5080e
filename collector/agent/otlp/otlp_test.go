// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/peer"
	"github.com/watchglass/watchglass/event"
)

// TestMain is also another sandbox: a process that floods the address it is given until its input ends.
func TestMain(m *testing.M) {
	if url := os.Getenv("WATCHGLASS_TEST_FLOOD"); url != "" {
		flood(url)
		return
	}
	os.Exit(m.Run())
}

func flood(url string) {
	body := prompts(200)
	for range 16 {
		go func() {
			for {
				r, err := http.Post(url, protobufType, bytes.NewReader(body))
				if err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
					_ = r.Body.Close()
				}
			}
		}()
	}
	_, _ = os.Stdout.WriteString("flooding\n")
	_, _ = io.ReadAll(os.Stdin)
}

// prompts is a request with so many of Codex's prompts, as protobuf.
func prompts(n int) []byte {
	body, err := promptsRequest(n).MarshalProto()
	if err != nil {
		panic(err)
	}
	return body
}

func promptsRequest(n int) plogotlp.ExportRequest {
	logs := plog.NewLogs()
	sl := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	sl.Scope().SetName("codex_otel.log_only")
	for i := range n {
		lr := sl.LogRecords().AppendEmpty()
		lr.Attributes().PutStr("event.name", "codex.user_prompt")
		lr.Attributes().PutInt("prompt_length", int64(i+1))
		lr.Attributes().PutStr("conversation.id", "c1")
	}
	return plogotlp.NewExportRequestFromLogs(logs)
}

// bench is a receiver at work, with what it heard. This process is sandbox 7, all others are sandbox 8.
type bench struct {
	*Receiver
	mu   sync.Mutex
	said []*agent.Statement
}

func (b *bench) take(s *agent.Statement) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, s)
}

// heard is how many statements sandbox made.
func (b *bench) heard(sandbox uint64) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.said {
		if s.Origin.Sandbox == sandbox {
			n++
		}
	}
	return n
}

func (b *bench) requests(result string) (n uint64) {
	for _, r := range b.Stats().Requests {
		if r.Result == result {
			n += r.Count
		}
	}
	return n
}

func (b *bench) url(path string) string { return "http://" + b.Address("http") + path }

func settings() Config {
	cfg := DefaultConfig()
	cfg.HTTP, cfg.GRPC, cfg.Socket = "127.0.0.1:0", "127.0.0.1:0", ""
	return cfg
}

func serve(t *testing.T, cfg Config, change ...func(*Settings)) *bench {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	peers, err := peer.New(peer.Settings{Logger: log, Sandbox: func(pid uint32) uint64 {
		if pid == uint32(os.Getpid()) {
			return 7
		}
		return 8
	}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{}
	s := Settings{Peers: peers, Claim: b.take, Logger: log}
	for _, c := range change {
		c(&s)
	}
	if b.Receiver, err = Open(cfg, s); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		free, turns := b.admission.slots()
		if c, r := b.admission.numbers(); c != 0 || r != 0 || free != max(2, runtime.GOMAXPROCS(0)) || turns != 0 {
			t.Errorf("not given back: %d connections, %d requests, %d slots free, %d turns", c, r, free, turns)
		}
	})
	return b
}

func packed(body []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(body)
	_ = z.Close()
	return out.Bytes()
}

// post sends a body and returns the answer with its body read.
func post(t *testing.T, client *http.Client, url string, body []byte, headers ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", protobufType)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, text
}

func TestHTTP(t *testing.T) {
	b := serve(t, settings())
	asJSON, err := promptsRequest(1).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	hex := `{"resourceLogs":[{"scopeLogs":[{"scope":{"name":"codex_otel.log_only"},"logRecords":[{"traceId":"0123456789abcdef0123456789abcdef",
		"spanId":"00f067aa0ba902b7","observedTimeUnixNano":"1","attributes":[{"key":"event.name","value":{"stringValue":"codex.user_prompt"}},
		{"key":"prompt_length","value":{"intValue":"9"}}]}]}]}]}`
	for i, c := range []struct {
		body    []byte
		headers []string
		want    string
	}{
		{prompts(1), nil, ""},
		{packed(prompts(1)), []string{"Content-Encoding", "gzip"}, ""},
		{asJSON, []string{"Content-Type", "application/json; charset=utf-8"}, "{}"},
		{packed([]byte(hex)), []string{"Content-Type", jsonType, "Content-Encoding", "gzip"}, "{}"},
	} {
		answer, text := post(t, http.DefaultClient, b.url("/v1/logs"), c.body, c.headers...)
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%d: %s %q", i, answer.Status, text)
		}
		if got := strings.ReplaceAll(string(text), `{"partialSuccess":{}}`, "{}"); got != c.want && !bytes.Equal(text, []byte{10, 0}) {
			t.Errorf("%d: answered %q", i, text)
		}
	}
	for _, path := range []string{"/v1/traces", "/v1/metrics"} {
		if answer, text := post(t, http.DefaultClient, b.url(path), nil); answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %q", path, answer.Status, text)
		}
	}
	if b.heard(7) != 2 { // the same prompt four times, but for the one of the JSON with ids
		t.Errorf("heard %d", b.heard(7))
	}
	if said := b.said[1].Claim.Said(); said.SpanID != [8]byte{0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7} || said.Sender != "" {
		t.Errorf("%+v", said)
	}
	if s := b.said[0]; s.Origin.PID != uint32(os.Getpid()) || s.Origin.Start == 0 {
		t.Errorf("origin %+v", s.Origin)
	}
}

// counted is a body of zeroes that says how much of it was asked for.
type counted struct {
	left int64
	read atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.left))
	clear(p[:n])
	c.left -= int64(n)
	c.read.Add(int64(n))
	return n, nil
}

// A body of 100 MB, whose length is not said before, is refused when it is too large and not read to its end.
func TestHundredMegabytes(t *testing.T) {
	b := serve(t, settings())
	for _, encoding := range []string{"", "gzip"} {
		body := &counted{left: 100 << 20}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url("/v1/logs"), body)
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = -1
		request.Header.Set("Content-Type", protobufType)
		if encoding != "" {
			request.Header.Set("Content-Encoding", encoding)
		}
		// A server that refuses may close before the client has sent all, who then sees that first.
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusRequestEntityTooLarge && answer.StatusCode != http.StatusBadRequest {
				t.Errorf("encoding %q: %s", encoding, answer.Status)
			}
		}
		if n := body.read.Load(); n > 64<<20 {
			t.Errorf("encoding %q: %d bytes were taken", encoding, n)
		}
	}
	if answer, text := post(t, http.DefaultClient, b.url("/v1/logs"), prompts(1)); answer.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s %q", answer.Status, text)
	}
}

func TestWhatHTTPRefuses(t *testing.T) {
	cfg := settings()
	cfg.MaxBodyBytes = 2 << 20
	b := serve(t, cfg)
	bomb := packed(make([]byte, 64<<20))
	if len(bomb) > cfg.MaxBodyBytes {
		t.Fatal("not a bomb")
	}
	for name, c := range map[string]struct {
		method, path string
		body         []byte
		headers      []string
		status       int
		words        string
	}{
		"another path":           {"", "/v1/profiles", nil, nil, 404, ""},
		"another method":         {"GET", "/v1/logs", nil, nil, 405, "only POST"},
		"another content type":   {"", "/v1/logs", nil, []string{"Content-Type", "text/plain"}, 415, "content type"},
		"another encoding":       {"", "/v1/logs", nil, []string{"Content-Encoding", "br"}, 415, "content encoding"},
		"not protobuf":           {"", "/v1/logs", []byte("\xff\xff\xff"), nil, 400, "not protobuf"},
		"not JSON":               {"", "/v1/traces", []byte(`{"resourceSpans":[`), []string{"Content-Type", jsonType}, 400, "cannot be decoded"},
		"not gzip":               {"", "/v1/logs", []byte("x"), []string{"Content-Encoding", "gzip"}, 400, "cannot be read"},
		"cut gzip":               {"", "/v1/logs", packed(prompts(9))[:40], []string{"Content-Encoding", "gzip"}, 400, "cannot be read"},
		"large":                  {"", "/v1/logs", make([]byte, 3<<20), nil, 413, "larger than"},
		"a bomb":                 {"", "/v1/logs", bomb, []string{"Content-Encoding", "gzip"}, 413, "unpacked larger"},
		"deep":                   {"", "/v1/logs", nested(100), nil, 400, "nested deeper"},
		"deep JSON":              {"", "/v1/logs", []byte(strings.Repeat("[", 200)), []string{"Content-Type", jsonType}, 400, "nested deeper"},
		"deep groups":            {"", "/v1/logs", bytes.Repeat([]byte{0x13}, 1<<19), nil, 400, "not protobuf"},
		"a million of nothing":   {"", "/v1/logs", bytes.Repeat([]byte{0x0a, 0}, 1<<20), nil, 400, "elements"},
		"nothing often, in JSON": {"", "/v1/logs", []byte("[" + strings.Repeat("1,", 1<<19-8) + "1]"), []string{"Content-Type", jsonType}, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			method := http.MethodPost
			if c.method != "" {
				method = c.method
			}
			r, err := http.NewRequestWithContext(t.Context(), method, b.url(c.path), bytes.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", protobufType)
			for i := 0; i+1 < len(c.headers); i += 2 {
				r.Header.Set(c.headers[i], c.headers[i+1])
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			text, _ := io.ReadAll(answer.Body)
			if answer.StatusCode != c.status {
				t.Fatalf("answered %s %q", answer.Status, text)
			}
			if c.words == "" {
				return
			}
			// In the encoding of the request.
			var s spb.Status
			decode := func(b []byte) error { return proto.Unmarshal(b, &s) }
			if answer.Header.Get("Content-Type") == jsonType {
				decode = func(b []byte) error { return protojson.Unmarshal(b, &s) }
			}
			if err := decode(text); err != nil || !strings.Contains(s.GetMessage(), c.words) || s.GetCode() == 0 {
				t.Errorf("%v: %q, want the words %q", err, text, c.words)
			}
		})
	}
	if b.requests(reasonMalformed) != 9 || b.requests(reasonTooLarge) != 2 || b.requests(reasonProtocol) != 3 {
		t.Errorf("counted %+v", b.Stats().Requests)
	}
	// It still works.
	if answer, text := post(t, http.DefaultClient, b.url("/v1/logs"), prompts(1)); answer.StatusCode != http.StatusOK {
		t.Errorf("%s %q", answer.Status, text)
	}
}

// wrap is a message as the field of another.
func wrap(message []byte, field protowire.Number) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), message)
}

// nested is a log record whose body is a list in a list, so deep.
func nested(depth int) []byte {
	var value []byte
	for range depth {
		value = wrap(wrap(value, 1), 5) // ArrayValue.values, AnyValue.array_value
	}
	return wrap(wrap(wrap(wrap(value, 5), 2), 2), 1)
}

func dial(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestGRPC(t *testing.T) {
	cfg := settings()
	cfg.MaxBodyBytes = 1 << 20
	b := serve(t, cfg)
	c := dial(t, b.Address("grpc"))
	client := plogotlp.NewGRPCClient(c)
	for _, options := range [][]grpc.CallOption{nil, {grpc.UseCompressor("gzip")}} {
		if _, err := client.Export(t.Context(), promptsRequest(len(options)+1), options...); err != nil {
			t.Fatal(err)
		}
	}
	if b.heard(7) != 2 { // of the second request one was told already
		t.Errorf("heard %d", b.heard(7))
	}
	raw := func(body []byte, options ...grpc.CallOption) error {
		var answer []byte
		return c.Invoke(t.Context(), "/opentelemetry.proto.collector.logs.v1.LogsService/Export", body, &answer,
			append(options, grpc.ForceCodecV2(rawCodec{}))...)
	}
	for name, test := range map[string]struct {
		err  error
		code codes.Code
	}{
		"not protobuf": {raw([]byte("\xff\xff")), codes.InvalidArgument},
		"deep":         {raw(nested(100)), codes.InvalidArgument},
		"large":        {raw(make([]byte, 2<<20)), codes.ResourceExhausted},
		"a bomb":       {raw(make([]byte, 64<<20), grpc.UseCompressor("gzip")), codes.ResourceExhausted},
		"no service":   {c.Invoke(t.Context(), "/x.Y/Z", []byte{}, new([]byte), grpc.ForceCodecV2(rawCodec{})), codes.Unimplemented},
	} {
		if status.Code(test.err) != test.code {
			t.Errorf("%s: %v", name, test.err)
		}
		for _, d := range status.Convert(test.err).Details() {
			t.Errorf("%s: to be tried again: %v", name, d)
		}
	}
	// gRPC tells the sender that a message is too large before the handler learns it.
	for deadline := time.Now().Add(5 * time.Second); b.requests(reasonMalformed) != 2 || b.requests(reasonTooLarge) != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("counted %+v", b.Stats().Requests)
		}
	}
}

func TestSocket(t *testing.T) {
	cfg := settings()
	cfg.HTTP, cfg.GRPC, cfg.Socket = "", "", filepath.Join(t.TempDir(), "agent", "otlp.sock")
	b := serve(t, cfg)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket)
	}}}
	defer client.CloseIdleConnections()
	if answer, text := post(t, client, "http://agents/v1/logs", prompts(1)); answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %q", answer.Status, text)
	}
	if _, err := plogotlp.NewGRPCClient(dial(t, "unix://"+cfg.Socket)).Export(t.Context(), promptsRequest(2)); err != nil {
		t.Fatal(err)
	}
	if b.heard(7) != 2 {
		t.Errorf("heard %d", b.heard(7))
	}
	if info, err := os.Stat(cfg.Socket); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v %v", info, err)
	}
}

// TestAddressInUse takes an address first: the receiver says so, does without, and takes it once it can.
func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := settings()
	cfg.GRPC = l.Addr().String()
	b := serve(t, cfg)
	if b.Address("grpc") != "" || b.Address("http") == "" {
		t.Errorf("heard at %q and %q", b.Address("http"), b.Address("grpc"))
	}
	err = (&endpoint{name: "grpc", network: "tcp", address: cfg.GRPC}).listen()
	if err == nil || !strings.Contains(err.Error(), "claims.otlp.grpc") {
		t.Errorf("said %v", err)
	}
	_ = l.Close()
	e := &endpoint{name: "grpc", network: "tcp", address: cfg.GRPC}
	if err := e.listen(); err != nil {
		t.Error(err)
	} else {
		_ = (*e.listener.Load()).Close()
	}
}

func TestPartialSuccess(t *testing.T) {
	b := serve(t, settings())
	request := promptsRequest(3)
	attrs := request.Logs().ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(1).Attributes()
	for i := range 2000 {
		attrs.PutEmpty("k" + strconv.Itoa(i))
	}
	body, err := request.MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	answer, text := post(t, http.DefaultClient, b.url("/v1/logs"), body)
	response := plogotlp.NewExportResponse()
	if err := response.UnmarshalProto(text); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %v", answer.Status, err)
	}
	if n := response.PartialSuccess().RejectedLogRecords(); n != 1 || response.PartialSuccess().ErrorMessage() == "" {
		t.Errorf("refused %d: %q", n, response.PartialSuccess().ErrorMessage())
	}
	if b.heard(7) != 2 {
		t.Errorf("heard %d", b.heard(7))
	}
	// A million attributes are more than any request may have of anything.
	million := wrap(wrap(wrap(bytes.Repeat([]byte{0x32, 0}, 1_000_000), 2), 2), 1) // LogRecord.attributes
	if answer, text := post(t, http.DefaultClient, b.url("/v1/logs"), million); answer.StatusCode != http.StatusBadRequest {
		t.Errorf("a million attributes: %s %q", answer.Status, text)
	}
}

// TestManyRecords sends more records than anybody does: none of them is taken, and they count.
func TestManyRecords(t *testing.T) {
	b := serve(t, settings())
	answer, text := post(t, http.DefaultClient, b.url("/v1/logs"), wrap(wrap(bytes.Repeat([]byte{0x12, 0}, maxRecords+1), 2), 1))
	if answer.StatusCode != http.StatusRequestEntityTooLarge || b.heard(7) != 0 {
		t.Errorf("%s %q, heard %d", answer.Status, text, b.heard(7))
	}
	b.admission.mu.Lock()
	defer b.admission.mu.Unlock()
	if left := b.admission.shares[7].tokens; left > b.admission.burst-maxRecords*recordCost+float64(b.cfg.BytesPerSecond) {
		t.Errorf("%.0f of the budget are left", left)
	}
}

func TestRate(t *testing.T) {
	cfg := settings()
	cfg.BytesPerSecond, cfg.BurstBytes = 2048, 2048
	b := serve(t, cfg)
	if answer, _ := post(t, http.DefaultClient, b.url("/v1/logs"), prompts(20)); answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
	answer, text := post(t, http.DefaultClient, b.url("/v1/logs"), prompts(1))
	if answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" || answer.Header.Get("Retry-After") == "0" {
		t.Errorf("%s after %q", answer.Status, answer.Header.Get("Retry-After"))
	}
	var s spb.Status
	if err := proto.Unmarshal(text, &s); err != nil || len(s.GetDetails()) != 1 {
		t.Errorf("%v %v", err, &s)
	}
	_, err := plogotlp.NewGRPCClient(dial(t, b.Address("grpc"))).Export(t.Context(), promptsRequest(1))
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatal(err)
	}
	details := status.Convert(err).Details()
	if len(details) != 1 {
		t.Fatalf("%v", details)
	}
	if info, ok := details[0].(*errdetails.RetryInfo); !ok || info.GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("%v", details[0])
	}
	if b.requests(reasonRate) != 2 {
		t.Errorf("counted %+v", b.Stats().Requests)
	}
}

// TestFlood has another process send as much as it can, on many connections: this one's requests are taken, and
// soon.
func TestFlood(t *testing.T) {
	cfg := settings()
	cfg.BytesPerSecond, cfg.BurstBytes = 1<<30, 1<<30 // what bounds it is the turns
	cfg.SandboxConnections = 8
	b := serve(t, cfg)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "WATCHGLASS_TEST_FLOOD="+b.url("/v1/logs"))
	stdin, _ := cmd.StdinPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}()
	for deadline := time.Now().Add(20 * time.Second); b.requests(reasonAccepted) < 20; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the flood does not come")
		}
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	const asked = 50
	var slowest time.Duration
	for i := range asked {
		start := time.Now()
		answer, text := post(t, client, b.url("/v1/logs"), prompts(1), "User-Agent", fmt.Sprint(i))
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("refused for another's flood: %s %q", answer.Status, text)
		}
		slowest = max(slowest, time.Since(start))
	}
	t.Logf("slowest of %d beside a flood: %v; the flood: %d taken, %d refused, %d turned away",
		asked, slowest, b.heard(8), b.requests(reasonBusy), b.Stats().TurnedAway)
	if b.Stats().TurnedAway == 0 || slowest > 5*time.Second {
		t.Errorf("turned away %d connections, slowest %v", b.Stats().TurnedAway, slowest)
	}
}

type relayed struct {
	mu     sync.Mutex
	bodies map[Signal][][]byte
}

func (r *relayed) Relay(signal Signal, _ uint64, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies[signal] = append(r.bodies[signal], body)
}

// TestStamp relays a request that claims to be from elsewhere.
func TestStamp(t *testing.T) {
	out := &relayed{bodies: map[Signal][][]byte{}}
	b := serve(t, settings(), func(s *Settings) {
		s.Relay = out
		s.Stamp = func(sandbox uint64) []event.Attribute {
			return []event.Attribute{
				{Key: event.SandboxID, Value: event.String("sandbox-" + strconv.FormatUint(sandbox, 10))},
				{Key: event.HostName, Value: event.String("node-1")},
			}
		}
	})
	request := promptsRequest(1)
	attrs := request.Logs().ResourceLogs().At(0).Resource().Attributes()
	attrs.PutStr("service.name", "codex_exec")
	attrs.PutStr(string(event.SandboxID), "another")
	attrs.PutStr("watchglass.anything", "forged")
	attrs.PutStr(string(event.HostName), "elsewhere")
	body, _ := request.MarshalProto()
	if answer, _ := post(t, http.DefaultClient, b.url("/v1/logs"), body); answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
	got := plogotlp.NewExportRequest()
	if err := got.UnmarshalProto(out.bodies[Logs][0]); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"service.name": "codex_exec", string(event.SandboxID): "sandbox-7", string(event.HostName): "node-1"}
	if raw := got.Logs().ResourceLogs().At(0).Resource().Attributes().AsRaw(); fmt.Sprint(raw) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", raw, want)
	}
	if got.Logs().LogRecordCount() != 1 {
		t.Error("the record is not there")
	}
}

func TestConfig(t *testing.T) {
	cfg := DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.HTTP = "4318" }, "http: "},
		{func(c *Config) { c.GRPC = "localhost:otlp" }, "grpc: "},
		{func(c *Config) { c.Socket = "x.sock" }, "socket: "},
		{func(c *Config) { c.Mode = "rw" }, "mode: "},
		{func(c *Config) { c.MaxBodyBytes = 1 }, "max_body_bytes: "},
		{func(c *Config) { c.Requests = 1 }, "requests: "},
		{func(c *Config) { c.Connections = 0 }, "connections: "},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, want one that begins with %q", err, c.want)
		}
	}
}
