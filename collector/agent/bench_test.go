// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// BenchmarkTranslate hears the whole recorded run of each agent: its decoding left out.
func BenchmarkTranslate(b *testing.B) {
	for _, name := range []string{"codex", "claude", "gemini", "opencode"} {
		b.Run(name, func(b *testing.B) {
			var logs []plogotlp.ExportRequest
			var traces []ptraceotlp.ExportRequest
			records := 0
			for _, r := range recordings(b, name+"-run") {
				if r.Signal == "logs" {
					q := plogotlp.NewExportRequest()
					if err := q.UnmarshalJSON(r.Body); err != nil {
						b.Fatal(err)
					}
					logs = append(logs, q)
					records += q.Logs().LogRecordCount()
				} else {
					q := ptraceotlp.NewExportRequest()
					if err := q.UnmarshalJSON(r.Body); err != nil {
						b.Fatal(err)
					}
					traces = append(traces, q)
					records += q.Traces().SpanCount()
				}
			}
			at := time.Date(2026, 11, 23, 9, 50, 0, 0, time.UTC)
			b.ReportAllocs()
			for b.Loop() {
				tr := NewTranslator(TranslatorConfig{})
				for _, q := range logs {
					tr.Logs(q.Logs(), Origin{Sandbox: 7}, at)
				}
				for _, q := range traces {
					tr.Traces(q.Traces(), Origin{Sandbox: 7}, at)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
		})
	}
}
