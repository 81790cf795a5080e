// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/watchglass/watchglass/test/e2e/backend"
)

// TestGatewayKilled: between node and backend is the gateway of deploy/otel-collector, which is killed at random
// moments under load. What it answered for is in its queue on disk: nothing may be lost.
func TestGatewayKilled(t *testing.T) {
	address := freeAddress(t)
	s := newScene(t, nodeSettings{otlp: sendTo(address)})
	s.scale.rate /= 4 // three programs of the same machine encode and decode all of it
	s.sink.start(t)
	deploy, err := filepath.Abs(filepath.Join(root, "deploy", "otel-collector"))
	if err != nil {
		t.Fatal(err)
	}
	environment := []string{
		"GATEWAY_GRPC=" + address, "GATEWAY_HTTP=" + freeAddress(t), "GATEWAY_HEALTH=" + freeAddress(t),
		"GATEWAY_QUEUE=" + filepath.Join(s.dir, "queue"), "OTLP_ENDPOINT=" + s.sink.address, "OTLP_INSECURE=true",
	}
	startGateway := func() *backend.Collector {
		t.Helper()
		g, err := backend.StartWith(s.otelcol, address, environment,
			filepath.Join(deploy, "gateway.yaml"), filepath.Join(deploy, "otlp.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Kill)
		return g
	}
	gateway := startGateway()
	s.begin(t)
	for range (s.scale.kills + 1) / 2 {
		time.Sleep(time.Second + rand.N(3*time.Second))
		gateway.Kill()
		gateway = startGateway()
	}
	time.Sleep(2 * time.Second)
	s.rest(t)
	s.drain = s.node.drained(t, patience)
	s.node.stop(t)
	// The gateway's queue has no counter that one could ask: it is empty when nothing arrives any more.
	for before := int64(-1); ; time.Sleep(2 * time.Second) {
		size := s.sink.size(t)
		if size == before {
			break
		}
		before = size
	}
	gateway.Stop()
	r := s.settle(t, fmt.Sprintf("Between node and backend is the gateway of deploy/otel-collector, which is killed %d times "+
		"under a quarter of the load, with SIGKILL, and started again.", (s.scale.kills+1)/2))
	if r.lost != 0 {
		t.Errorf("%d events were lost: %v", r.lost, r.losses)
	}
}
