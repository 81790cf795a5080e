// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/test/e2e/backend"
)

// misbehaving stands before the real backend and does what servers and networks do on bad days.
type misbehaving struct {
	*httptest.Server
	target string

	mu     sync.Mutex
	good   bool // only passes on from here on
	counts map[string]int
	next   []string // the ways of this round that are still to come
}

// misbehaviours are the ways to answer a request otherwise than by passing it on.
var misbehaviours = []string{"reset before", "reset after", "stall", "429", "503", "half-close", "garbage"}

// poison says whether the backend will never take a record.
func poison(r *logs.LogRecord) bool {
	if r.GetEventName() != "watchglass.file.open" {
		return false
	}
	seq, _ := strconv.Atoi(backend.Attributes(r.GetAttributes())["watchglass.event.seq"])
	return seq%20000 == 7
}

func newMisbehaving(t *testing.T) *misbehaving {
	t.Helper()
	m := &misbehaving{counts: map[string]int{}}
	m.Server = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(func() {
		m.CloseClientConnections()
		m.Close()
	})
	return m
}

// choose is what happens to the next request. Each way to misbehave comes once before any comes again: how many
// requests there are depends on the machine, and some ways are slow.
func (m *misbehaving) choose() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	way := "pass"
	if !m.good && rand.N(2) == 0 {
		if len(m.next) == 0 {
			m.next = slices.Clone(misbehaviours)
			rand.Shuffle(len(m.next), func(i, j int) { m.next[i], m.next[j] = m.next[j], m.next[i] })
		}
		way, m.next = m.next[0], m.next[1:]
	}
	m.counts[way]++
	return way
}

// awaitAll waits until each way to misbehave has come at least once.
func (m *misbehaving) awaitAll(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		m.mu.Lock()
		counts := maps.Clone(m.counts)
		m.mu.Unlock()
		delete(counts, "pass")
		if len(counts) == len(misbehaviours) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not everything happened: %v", counts)
		}
	}
}

func (m *misbehaving) recover() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.good = true
	return maps.Clone(m.counts)
}

func (m *misbehaving) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch m.choose() {
	case "reset before":
		hangUp(w, nil)
	case "reset after":
		_, _ = m.pass(body)
		hangUp(w, nil)
	case "stall":
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	case "429":
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case "503":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "half-close":
		_, _ = m.pass(body)
		hangUp(w, []byte("HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nhalf"))
	case "garbage":
		_, _ = m.pass(body)
		_, _ = w.Write([]byte("<html>welcome</html>"))
	default:
		answer, err := m.pass(body)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(answer)
	}
}

// hangUp writes what it is given and closes its side, or resets the connection.
func hangUp(w http.ResponseWriter, words []byte) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if words == nil {
			_ = tcp.SetLinger(0)
		} else {
			_, _ = tcp.Write(words)
			_ = tcp.CloseWrite()
			time.Sleep(50 * time.Millisecond)
		}
	}
	_ = conn.Close()
}

// pass gives the backend what it takes of a request, and answers as it would, with what it did not take.
func (m *misbehaving) pass(body []byte) ([]byte, error) {
	var request collogs.ExportLogsServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	rejected := int64(0)
	for _, resource := range request.GetResourceLogs() {
		for _, scope := range resource.GetScopeLogs() {
			before := len(scope.GetLogRecords())
			scope.LogRecords = slices.DeleteFunc(scope.GetLogRecords(), poison)
			rejected += int64(before - len(scope.GetLogRecords()))
		}
	}
	body, err := proto.Marshal(&request)
	if err != nil {
		return nil, err
	}
	answer, err := http.Post(m.target+"/v1/logs", "application/x-protobuf", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d", answer.StatusCode)
	}
	response := &collogs.ExportLogsServiceResponse{}
	if rejected > 0 {
		response.PartialSuccess = &collogs.ExportLogsPartialSuccess{RejectedLogRecords: rejected, ErrorMessage: "poison"}
	}
	return proto.Marshal(response)
}

// TestMisbehavingBackend: the backend resets, stalls, answers 429, 503 and garbage, closes half-way, and will never
// take one event in 20,000, which it says by partial success.
func TestMisbehavingBackend(t *testing.T) {
	m := newMisbehaving(t)
	s := newScene(t, nodeSettings{otlp: fmt.Sprintf(
		"{logs: {endpoint: %s/v1/logs, protocol: http/protobuf, compression: none, timeout: 2s}, retry: {initial: 50ms, max: 500ms}}", m.URL)})
	m.target = "http://" + s.sink.httpAddress
	s.sink.start(t)
	s.begin(t)
	time.Sleep(s.scale.misbehave)
	m.awaitAll(t)
	s.rest(t)
	counts := m.recover()
	r := s.finish(t, "The backend resets, stalls, answers 429, 503 and garbage, closes half-way, and refuses one event in 20,000 by partial success.")
	t.Logf("what happened: %v", counts)
	for key := range r.losses {
		if key != "export otlp rejected" {
			t.Errorf("lost otherwise than by refusal: %v", r.losses)
		}
	}
}
