// SPDX-License-Identifier: Apache-2.0

package event

// Trace is the span of the agent that the event belongs to: a claim's own, else the one that owns the process.
// Both ids are zero when no trace is known, the span's alone when only the trace is.
func (e *Event) Trace() (trace [16]byte, span [8]byte) {
	if said, ok := e.Payload.(Said); ok {
		claim := said.Said()
		return claim.TraceID, claim.SpanID
	}
	if e.Process == nil || !e.Process.Agent.HasTrace() {
		return [16]byte{}, [8]byte{}
	}
	return e.Process.Agent.TraceID, e.Process.Agent.SpanID
}

// Session is the agent's own id of the session that the event belongs to, or "".
func (e *Event) Session() string {
	if said, ok := e.Payload.(Said); ok {
		return said.Said().Session
	}
	if e.Process == nil || e.Process.Agent == nil {
		return ""
	}
	return e.Process.Agent.SessionID
}
