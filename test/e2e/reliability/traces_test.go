// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/watchglass/watchglass/test/e2e/backend"
)

// agentLoad is an agent that tells of model requests, each with its number: "agent URL".
const agentLoad = "agent"

const (
	// tellInterval is how often it tells, requestsAtOnce of how many requests then.
	tellInterval   = 20 * time.Millisecond
	requestsAtOnce = 10
)

// runAgent tells of requests until it is told to end. What was taken it says, with the time; what was not it tells again.
func runAgent(url string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	client := http.Client{Timeout: 5 * time.Second}
	for n := 0; ; {
		select {
		case <-ended:
			return nil
		case <-time.After(tellInterval):
		}
		answer, err := client.Post(url, "application/json", strings.NewReader(requestSpans(n, requestsAtOnce)))
		if err != nil {
			continue // the collector is down
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			fmt.Printf("taken %d %d\n", n, time.Now().UnixNano())
			n += requestsAtOnce
		}
	}
}

// requestSpans is requests of a model, by the conventions for generative AI, as OTLP.
func requestSpans(from, n int) string {
	var spans bytes.Buffer
	now := time.Now().UnixNano()
	for i := from; i < from+n; i++ {
		if i > from {
			spans.WriteByte(',')
		}
		fmt.Fprintf(&spans, `{"traceId":"%032x","spanId":"%016x","name":"chat","kind":3,"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[
{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},{"key":"gen_ai.request.model","value":{"stringValue":"number-%d"}},
{"key":"gen_ai.conversation.id","value":{"stringValue":"conversation-%d"}}]}`, i+1, i+1, now-1e6, now, i, i/1000)
	}
	return `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"numbered-agent"}}]},"scopeSpans":[{"spans":[` +
		spans.String() + `]}]}]}`
}

// spanArrivals is the spans that arrived.
type spanArrivals struct {
	// by is how many came of each start of the collector, those that came again left out; again is those.
	by    map[string]uint64
	again uint64
	// requests is the numbers of those that are requests.
	requests map[int]bool
	// lost is the sums of the losses of spans, by reason.
	lost map[string]uint64
}

func readSpans(t *testing.T, file string) *spanArrivals {
	t.Helper()
	a := &spanArrivals{by: map[string]uint64{}, requests: map[int]bool{}, lost: map[string]uint64{}}
	seen := map[string]bool{}
	err := backend.Spans(file, func(resource map[string]string, span *trace.Span) {
		instance := resource["service.instance.id"]
		id := instance + string(span.GetTraceId()) + string(span.GetSpanId())
		if seen[id] {
			a.again++
			return
		}
		seen[id] = true
		a.by[instance]++
		if number, err := strconv.Atoi(strings.TrimPrefix(span.GetName(), "chat number-")); err == nil {
			a.requests[number] = true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	err = backend.Records(file, func(_ map[string]string, record *logs.LogRecord) {
		attributes := backend.Attributes(record.GetAttributes())
		if uid := attributes["log.record.uid"]; record.GetEventName() != "watchglass.telemetry.loss" || told[uid] {
			return
		} else {
			told[uid] = true
		}
		if what := attributes["watchglass.loss.kind"]; what == "spans" || what == "otlp-traces" {
			n, _ := strconv.ParseUint(attributes["watchglass.loss.count"], 10, 64)
			a.lost[attributes["watchglass.loss.reason"]] += n
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestTraces: an agent tells of model requests, each with its number, while the backend of traces is down for a time and
// the collector is killed at random moments. Each start's spans arrive or are told as lost, and of each request that was
// taken there is a span, unless it was taken just before a kill.
func TestTraces(t *testing.T) {
	on := newStage(t)
	hear := freeAddress(t)
	k := newSink(t, on, "arrived")
	s := &scene{stage: on, sink: k}
	s.node = newNode(t, on, nodeSettings{
		claims: fmt.Sprintf(", otlp: {http: %q, grpc: \"\", socket: \"\"}", hear),
		otlp:   fmt.Sprintf("{endpoint: http://%s, traces: {endpoint: http://%[1]s}, retry: {initial: 200ms, max: 2s}}", k.address),
	})
	k.start(t)
	s.node.start(t)
	s.began = time.Now()
	var mu sync.Mutex
	taken := map[int]time.Time{}
	load := &workload{}
	load.start(t, s.node.cgroup, agentLoad+" http://"+hear+"/v1/traces", func(words []string) {
		if len(words) != 3 || words[0] != "taken" {
			return
		}
		first, _ := strconv.Atoi(words[1])
		at, _ := strconv.ParseInt(words[2], 10, 64)
		mu.Lock()
		defer mu.Unlock()
		for n := range requestsAtOnce {
			taken[first+n] = time.Unix(0, at)
		}
	})
	outage := s.scale.outage / 10
	for i := range s.scale.kills {
		time.Sleep(time.Second + rand.N(time.Second))
		if i == s.scale.kills/2 { // it is down over a kill
			k.collector.Stop()
			time.Sleep(outage)
		}
		s.node.kill(t)
		s.node.start(t)
		if i == s.scale.kills/2 {
			k.start(t)
		}
	}
	time.Sleep(time.Second)
	load.stop(t)
	s.took = time.Since(s.began)
	s.drain = s.node.drained(t, patience)
	s.node.stop(t)
	k.collector.Stop()
	a := readSpans(t, k.file)
	produced, delivered := uint64(0), uint64(0)
	for _, instance := range slices.Sorted(maps.Keys(s.node.spans)) {
		produced, delivered = produced+s.node.spans[instance], delivered+a.by[instance]
		if a.by[instance] > s.node.spans[instance] {
			t.Errorf("start %s made %d spans, and %d arrived", instance, s.node.spans[instance], a.by[instance])
		}
	}
	unfinished := a.lost["unfinished"]
	lost := sum(a.lost) - unfinished
	if produced != delivered+lost || delivered == 0 {
		t.Errorf("%d spans were made, %d arrived, and %d are told as lost: %v", produced, delivered, lost, a.lost)
	}
	// What a collector has taken and not written when it is killed is in memory alone.
	const blind = time.Second
	unseen, gone := 0, 0
	for number, at := range taken {
		switch {
		case a.requests[number]:
		case slices.ContainsFunc(s.node.down, func(i interval) bool { return at.After(i.from.Add(-blind)) && at.Before(i.to.Add(blind)) }):
			unseen++
		default:
			gone++
		}
	}
	if gone > 0 {
		t.Errorf("of %d requests that were taken %d have no span", len(taken), gone)
	}
	reportText(t, fmt.Sprintf("An agent tells of model requests, each with its number; the collector is killed %d times with SIGKILL, and the backend of traces is down "+
		"for %v, over one of the kills.", s.scale.kills, outage), []row{
		{"spans made", fmt.Sprintf("%d in %.0f s", produced, s.took.Seconds())},
		{"arrived", fmt.Sprintf("%d; %d came again", delivered, a.again)},
		{"accounted for as lost", strconv.FormatUint(lost, 10)},
		{"missing without account", strconv.FormatInt(int64(produced)-int64(delivered)-int64(lost), 10)},
		{"turns that a kill left unfinished, and told", strconv.FormatUint(unfinished, 10)},
		{"requests that were taken, without a span", fmt.Sprintf("%d, %d", len(taken), gone)},
		{"and taken within a second of a kill, without a span", strconv.Itoa(unseen)},
		{"time until the destination had caught up", fmt.Sprintf("%.1f s", s.drain.Seconds())},
	})
	t.Logf("%d spans made, %d arrived, %d came again, lost: %v; %d requests, %d unseen", produced, delivered, a.again, a.lost, len(taken), unseen)
}
