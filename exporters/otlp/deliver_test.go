// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

// TestAnswers: what the specification calls retryable is tried again soon, what is no fault of the data waits,
// and nothing is rejected by a destination that never took anything.
func TestAnswers(t *testing.T) {
	t.Parallel()
	exhausted, err := status.New(codes.ResourceExhausted, "slow down").
		WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(50 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	once := func(err error) func(int) error {
		return func(n int) error {
			if n == 1 {
				return err
			}
			return nil
		}
	}
	answer := func(code int, header, value string) func(int, http.ResponseWriter) bool {
		return func(n int, w http.ResponseWriter) bool {
			if n > 1 {
				return false
			}
			if header != "" {
				w.Header().Set(header, value)
			}
			w.WriteHeader(code)
			return true
		}
	}
	date := func(n int, w http.ResponseWriter) bool {
		return answer(503, "Retry-After", time.Now().Add(2*time.Second).UTC().Format(http.TimeFormat))(n, w)
	}
	const soon, late = 0, 200 * time.Millisecond // the longest pause is 400 ms below, and the first 1 ms
	for name, test := range map[string]struct {
		script any
		least  time.Duration
	}{
		"unavailable":               {once(status.Error(codes.Unavailable, "later")), soon},
		"aborted":                   {once(status.Error(codes.Aborted, "later")), soon},
		"cancelled":                 {once(status.Error(codes.Canceled, "later")), soon},
		"deadline":                  {once(status.Error(codes.DeadlineExceeded, "later")), soon},
		"out of range":              {once(status.Error(codes.OutOfRange, "later")), soon},
		"data loss":                 {once(status.Error(codes.DataLoss, "later")), soon},
		"exhausted with a time":     {once(exhausted.Err()), 50 * time.Millisecond},
		"exhausted without":         {once(status.Error(codes.ResourceExhausted, "quota")), late},
		"invalid":                   {once(status.Error(codes.InvalidArgument, "bad")), late},
		"internal":                  {once(status.Error(codes.Internal, "oops")), late},
		"unauthenticated":           {once(status.Error(codes.Unauthenticated, "who?")), late},
		"denied":                    {once(status.Error(codes.PermissionDenied, "you?")), late},
		"unimplemented":             {once(status.Error(codes.Unimplemented, "no logs")), late},
		"429":                       {answer(429, "Retry-After", "1"), time.Second},
		"503 with a date":           {date, 500 * time.Millisecond},
		"502":                       {answer(502, "", ""), soon},
		"504":                       {answer(504, "", ""), soon},
		"503 with a senseless time": {answer(503, "Retry-After", "soon"), soon},
		"400":                       {answer(400, "", ""), late},
		"401":                       {answer(401, "", ""), late},
		"404":                       {answer(404, "", ""), late},
		"413":                       {answer(413, "", ""), late},
		"500":                       {answer(500, "", ""), late},
		"redirect":                  {answer(307, "Location", "http://127.0.0.1:1/"), late},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s server
			protocol := ProtocolGRPC
			s.grpcScript, _ = test.script.(func(int) error)
			if s.httpScript, _ = test.script.(func(int, http.ResponseWriter) bool); s.httpScript != nil {
				protocol = ProtocolHTTP
			}
			cfg := s.start(t, protocol, nil)
			cfg.Retry.Max = 400 * time.Millisecond
			start := time.Now()
			taken(t, cfg, sample.Events()[:1])
			if took := time.Since(start); took < test.least {
				t.Errorf("tried again after %v, want at least %v", took, test.least)
			}
			if got := s.seen(); got != 2 {
				t.Errorf("%d requests, want 2", got)
			}
		})
	}
}

// TestRemedies: what a person reads names the destination, and what can be done, and no secret.
func TestRemedies(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ script, want any }{
		"unauthenticated": {status.Error(codes.Unauthenticated, "who?"), "check the credentials"},
		"unimplemented":   {status.Error(codes.Unimplemented, "no logs"), "does not take this signal"},
		"compression":     {status.Error(codes.Unimplemented, `grpc: Decompressor is not installed for grpc-encoding "gzip"`), "compression"},
		"words":           {status.Error(codes.InvalidArgument, "bad\x1b[2Jthing"), `bad\x1b[2Jthing`},
		"401":             {401, "check the credentials"},
		"404":             {404, "check its path"},
		"415":             {415, "compression"},
		"500":             {500, "HTTP 500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s server
			protocol := ProtocolGRPC
			if err, ok := test.script.(error); ok {
				s.grpcScript = func(int) error { return err }
			} else {
				protocol = ProtocolHTTP
				s.httpScript = func(_ int, w http.ResponseWriter) bool {
					w.WriteHeader(test.script.(int))
					return true
				}
			}
			cfg := s.start(t, protocol, nil)
			cfg.Headers = Headers{"authorization": "s3cret"}
			err := waits(t, cfg)
			for _, want := range []string{test.want.(string), s.endpoint} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want an error with %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// numbered is n events whose instance is "good", but for those at the indexes, whose instance is "bad".
func numbered(n int, bad ...int) []*event.Event {
	events := make([]*event.Event, n)
	for i := range events {
		ev := *sample.Events()[0]
		ev.Seq, ev.Instance = uint64(i), "good"
		if slices.Contains(bad, i) {
			ev.Instance = "bad"
		}
		events[i] = &ev
	}
	return events
}

// isBad says whether a record is of an event that numbered made bad.
func isBad(record *logs.LogRecord) bool {
	uid, _ := plainMap(record.GetAttributes())[string(event.LogRecordUID)].(string)
	return strings.HasPrefix(uid, "bad-")
}

func countBad(r *collogs.ExportLogsServiceRequest) int64 {
	n := int64(0)
	for _, group := range r.GetResourceLogs() {
		for _, record := range group.GetScopeLogs()[0].GetLogRecords() {
			if isBad(record) {
				n++
			}
		}
	}
	return n
}

// uids is how often each event was taken.
func (s *server) uids() map[string]int {
	seen := map[string]int{}
	for _, record := range s.records() {
		uid, _ := plainMap(record.GetAttributes())[string(event.LogRecordUID)].(string)
		seen[uid]++
	}
	return seen
}

// checkRejected wants exactly the bad ones rejected, with the reason, and every good one taken.
func checkRejected(t *testing.T, s *server, rejected []event.Rejection, n int, bad []int, reason string) {
	t.Helper()
	var places []int
	for _, r := range rejected {
		places = append(places, r.Index)
		if !strings.Contains(r.Reason, reason) {
			t.Errorf("record %d is rejected because %q, want %q", r.Index, r.Reason, reason)
		}
	}
	slices.Sort(places)
	if !slices.Equal(places, bad) {
		t.Errorf("rejected %v, want %v", places, bad)
	}
	seen := s.uids()
	for i := range n {
		if !slices.Contains(bad, i) && seen[fmt.Sprintf("good-%d", i)] == 0 {
			t.Errorf("record %d is neither taken nor rejected", i)
		}
	}
}

// TestPoison: the record that a destination cannot take is found and rejected, and it alone.
func TestPoison(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		for name, refusal := range map[string]struct {
			grpc error
			http int
			want string
		}{
			"refused": {status.Error(codes.InvalidArgument, "no thanks"), 400, ""},
			"unclear": {status.Error(codes.Internal, "panic"), 500, ""},
		} {
			for _, bad := range [][]int{{0}, {99}, {50, 51, 52}, {0, 1, 2, 3, 25, 50, 75}} {
				t.Run(fmt.Sprint(protocol, name, bad), func(t *testing.T) {
					t.Parallel()
					s := server{judge: func(r *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsPartialSuccess, int, error) {
						if countBad(r) > 0 {
							return nil, refusal.http, refusal.grpc
						}
						return nil, 0, nil
					}}
					l := open(t, s.start(t, protocol, nil))
					// The first Send knows nothing of the destination, the second that it took something.
					for range 2 {
						rejected, err := l.Send(t.Context(), encode(numbered(100, bad...)))
						if err != nil {
							t.Fatal(err)
						}
						want := "no thanks"
						if name == "unclear" {
							want = "panic"
						}
						if protocol == ProtocolHTTP {
							want = fmt.Sprint("HTTP ", refusal.http)
						}
						checkRejected(t, &s, rejected, 100, bad, want)
					}
				})
			}
		}
	}
}

// TestOutage: a destination that worked and then fails whatever it is sent gets the blame itself.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 500} {
		s := server{httpScript: func(n int, w http.ResponseWriter) bool {
			if n > 1 && n < 40 {
				w.WriteHeader(code)
				return true
			}
			return false
		}}
		cfg := s.start(t, ProtocolHTTP, nil)
		l := open(t, cfg)
		for range 2 {
			rejected, err := l.Send(t.Context(), encode(numbered(10)))
			if err != nil || len(rejected) > 0 {
				t.Errorf("HTTP %d: rejected %v, error %v", code, rejected, err)
			}
		}
		checkRejected(t, &s, nil, 10, nil, "")
	}
}

// TestTooLarge: what is too large is split, and a record that is too large alone is rejected.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	for _, protocol := range protocols() {
		s := server{judge: func(r *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsPartialSuccess, int, error) {
			if n := len(canonical(t, r)); n > limit {
				return nil, 413, status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", n, limit)
			}
			return nil, 0, nil
		}}
		l := open(t, s.start(t, protocol, nil))
		events := numbered(200)
		events[120].Payload = &event.ProcessExec{Args: []string{strings.Repeat("x", limit)}}
		rejected, err := l.Send(t.Context(), encode(events))
		if err != nil {
			t.Fatal(err)
		}
		checkRejected(t, &s, rejected, 200, []int{120}, "too large for the destination")
		before := s.seen()
		if _, err := l.Send(t.Context(), encode(numbered(200))); err != nil {
			t.Fatal(err)
		}
		if n := s.seen() - before; n > 8 {
			t.Errorf("%s: %d requests: it has not learnt what the destination takes", protocol, n)
		}
	}
}

// TestFiveMegabytes: an event that is larger than what a server takes by default is sent alone; where it is taken it
// arrives whole, where not it is rejected, with what to do, and holds up nothing.
func TestFiveMegabytes(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		var s server
		s.judge = func(r *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsPartialSuccess, int, error) {
			if n := len(canonical(t, r)); n > 4<<20 {
				return nil, 413, status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", n, 4<<20)
			}
			return nil, 0, nil
		}
		l := open(t, s.start(t, protocol, nil))
		events := numbered(20)
		events[7].Payload = &event.ProcessExec{Args: []string{strings.Repeat("0123456789abcdef", 5<<20/16)}}
		rejected, err := l.Send(t.Context(), encode(events))
		if err != nil {
			t.Fatal(err)
		}
		checkRejected(t, &s, rejected, 20, []int{7}, "let the server take larger ones")
	}
}

// TestPartialSuccess: which records a destination refused is found out by sending halves again.
func TestPartialSuccess(t *testing.T) {
	t.Parallel()
	for _, protocol := range append(protocols(), ProtocolJSON) {
		for _, bad := range [][]int{{0}, {63}, {7, 8}, {1, 30, 31, 60}} {
			s := server{judge: func(r *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsPartialSuccess, int, error) {
				return &collogs.ExportLogsPartialSuccess{RejectedLogRecords: countBad(r), ErrorMessage: "too \x1bold"}, 0, nil
			}}
			rejected, err := send(t, s.start(t, protocol, nil), numbered(64, bad...))
			if err != nil {
				t.Fatal(err)
			}
			checkRejected(t, &s, rejected, 64, bad, `too \x1bold`)
		}
	}
}

// TestPartialSuccessOfAll: nothing is sent again when there is nothing to find out.
func TestPartialSuccessOfAll(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		s := server{partial: &collogs.ExportLogsPartialSuccess{RejectedLogRecords: 1 << 40, ErrorMessage: "no"}}
		rejected, err := send(t, s.start(t, protocol, nil), numbered(3, 0, 1, 2))
		if err != nil {
			t.Fatal(err)
		}
		checkRejected(t, &s, rejected, 3, []int{0, 1, 2}, "no")
		if s.seen() != 1 {
			t.Errorf("%s: %d requests, want 1", protocol, s.seen())
		}
	}
}

// TestFickle: a destination whose answers do not add up makes no more records than there are, and no end.
func TestFickle(t *testing.T) {
	t.Parallel()
	n := 0
	s := server{judge: func(*collogs.ExportLogsServiceRequest) (*collogs.ExportLogsPartialSuccess, int, error) {
		n++
		return &collogs.ExportLogsPartialSuccess{RejectedLogRecords: int64(n*7919%500 - 3)}, 0, nil
	}}
	rejected, err := send(t, s.start(t, ProtocolGRPC, nil), numbered(1000))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, r := range rejected {
		if r.Index < 0 || r.Index >= 1000 || seen[r.Index] {
			t.Fatalf("record %d is rejected twice, or is none", r.Index)
		}
		seen[r.Index] = true
	}
	if s.seen() > 3000 {
		t.Errorf("%d requests for 1000 records", s.seen())
	}
}

// TestWarning: a partial success that rejected nothing is a success.
func TestWarning(t *testing.T) {
	t.Parallel()
	s := server{partial: &collogs.ExportLogsPartialSuccess{ErrorMessage: "deprecated"}}
	taken(t, s.start(t, ProtocolGRPC, nil), sample.Events()[:1])
}

// TestComesBack: a refused connection is tried until somebody listens.
func TestComesBack(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := listener.Addr().String()
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
			cfg := testConfig(protocol, "http://"+address)
			if protocol == ProtocolHTTP {
				cfg.Endpoint += "/v1/logs"
				cfg.Logs.Endpoint = cfg.Endpoint
			}
			for _, want := range []string{address, "is the OpenTelemetry Collector running"} {
				if err := waits(t, cfg); !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want an error with %q", err, want)
				}
			}
			s := server{address: address}
			go func() {
				time.Sleep(100 * time.Millisecond)
				s.start(t, protocol, nil)
			}()
			taken(t, cfg, sample.Events())
		})
	}
}

// TestGarbage: whoever else listens there may say anything, and hang up or fall silent when he likes.
func TestGarbage(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"silence":         "",
		"noise":           "\x00\xff\x1b[2J garbage\r\n\r\n",
		"another HTTP":    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>",
		"JSON of another": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\nConnection: close\r\n\r\n[1, 2]",
		"protobuf":        "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 6\r\nConnection: close\r\n\r\n\xff\xff\xff\xff\xff\xff",
		"half an HTTP":    "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 600\r\n\r\n\x0a",
		"endless words":   strings.Repeat("a", 1<<20),
	} {
		for _, protocol := range protocols() {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				cfg := testConfig(protocol, "http://"+talker(t, reply))
				cfg.Timeout = 100 * time.Millisecond
				err := waits(t, cfg)
				if name == "protobuf" && protocol == ProtocolHTTP && !strings.Contains(err.Error(), "endpoint of a collector") {
					t.Errorf("it does not say what to do: %v", err)
				}
				if len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\x1b\x00") {
					t.Errorf("the error is not fit for a log: %q", err)
				}
			})
		}
	}
}

// talker says the same to whoever connects.
func talker(t *testing.T, reply string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				_, _ = io.ReadAtLeast(conn, make([]byte, 4096), 16)
				_, _ = io.WriteString(conn, reply)
				if reply == "" {
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// TestBreaks: a connection that is reset, half-closed or stalled in the middle of a request is made anew.
func TestBreaks(t *testing.T) {
	t.Parallel()
	for name, brk := range map[string]func(client, server *net.TCPConn){
		"reset": func(client, _ *net.TCPConn) {
			_ = client.SetLinger(0)
			_ = client.Close()
		},
		"half-close": func(client, _ *net.TCPConn) { _ = client.CloseWrite() },
		"stall":      func(*net.TCPConn, *net.TCPConn) {},
	} {
		for _, protocol := range protocols() {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				var s server
				cfg := s.start(t, protocol, nil)
				_, to, _ := strings.Cut(s.endpoint, "://")
				cfg.Endpoint = "http://" + breaker(t, to, 3, brk)
				cfg.Timeout = 300 * time.Millisecond
				taken(t, cfg, numbered(100))
				checkRejected(t, &s, nil, 100, nil, "")
			})
		}
	}
}

// breaker forwards connections, the first times of which it breaks once some bytes went through.
func breaker(t *testing.T, to string, times int, brk func(client, server *net.TCPConn)) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			client := conn.(*net.TCPConn)
			t.Cleanup(func() { _ = client.Close() })
			dialled, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to)
			if err != nil {
				return
			}
			server := dialled.(*net.TCPConn)
			t.Cleanup(func() { _ = server.Close() })
			go func() { _, _ = io.Copy(client, server) }()
			go func() {
				if n < times {
					_, _ = io.CopyN(server, client, 200)
					brk(client, server)
					return
				}
				_, _ = io.Copy(server, client)
			}()
		}
	}()
	return listener.Addr().String()
}

// TestSplit: a batch beyond what servers take is sent in several requests, and nothing is lost; what is
// beyond it alone is sent alone.
func TestSplit(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		s := server{grpcLimit: 8 << 20}
		cfg := s.start(t, protocol, nil)
		cfg.Timeout = time.Minute // a request that is only slow is sent again, and its records are there twice
		events := numbered(40)
		for i := range events {
			events[i].Payload = &event.ProcessExec{Args: []string{strings.Repeat("x", 128<<10)}, ArgsCount: 1}
		}
		events[20].Payload = &event.ProcessExec{Args: []string{strings.Repeat("y", 5<<19)}, ArgsCount: 1}
		taken(t, cfg, events)
		if n := len(s.records()); n != 40 || s.seen() < 4 || s.seen() > 8 {
			t.Errorf("%s: %d records in %d requests, want 40 in 4 to 8", protocol, n, s.seen())
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		cfg := testConfig(protocol, "http://"+talker(t, ""))
		cfg.Timeout = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		if _, err := open(t, cfg).Send(ctx, encode(sample.Events()[:1])); err == nil {
			t.Errorf("%s: silence was taken for success", protocol)
		}
		cancel()
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: gave up %v after the context ended", protocol, took)
		}
	}
}
