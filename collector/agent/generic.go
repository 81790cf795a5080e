// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"slices"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// generic is any other agent that keeps to the conventions of OpenTelemetry for generative AI. It recognises
// no processes, and hears whoever is nobody else: it must be the last.
func generic() Adapter {
	return Adapter{
		Name:   "generic",
		speaks: func(*record) bool { return true },
		hear: func(h *hearing, r *record) Verdict {
			g := &genericRecord{hearing: h, record: r}
			if r.channel == event.ChannelSpan {
				return g.hearSpan()
			}
			return g.hearLog()
		},
	}
}

type genericRecord struct {
	*hearing
	*record
}

func (g *genericRecord) claim() event.Claim {
	conversation, session := g.id("gen_ai.conversation.id"), g.id("session.id")
	agent := cmp.Or(g.word("gen_ai.agent.name"), g.service(), "generic")
	claim := g.hearing.claim(g.record, agent, cmp.Or(g.word("gen_ai.agent.version"), text(g.resource, "service.version", maxName)),
		cmp.Or(session, conversation))
	claim.Conversation = cmp.Or(conversation, session)
	claim.SubAgent = g.id("gen_ai.agent.id")
	return claim
}

// hearLog takes nothing but exceptions: what the conventions' other events say, their spans say too.
func (g *genericRecord) hearLog() Verdict {
	switch {
	case g.name == "gen_ai.client.operation.exception":
		g.say(g.at, &event.AgentError{
			Claim: g.claim(), Type: cmp.Or(g.word("error.type"), g.word("exception.type"), "exception"),
			Message: firstLine(g.text("exception.message", maxReason)),
		})
		return Told
	case strings.HasPrefix(g.name, "gen_ai."):
		return Silent
	}
	return Unknown
}

func (g *genericRecord) hearSpan() Verdict {
	operation := g.word("gen_ai.operation.name")
	switch {
	case operation == "execute_tool", operation == "" && g.word("mcp.method.name") == "tools/call":
		g.hearTool()
	case slices.Contains([]string{"chat", "text_completion", "generate_content", "completion"}, operation):
		g.hearRequest()
	case operation == "invoke_agent", operation == "create_agent":
		return g.hearAgent()
	case operation != "":
		return Silent // embeddings, retrieval, plans, and what the conventions may yet name
	default:
		return Unknown
	}
	return Told
}

func (g *genericRecord) failure() string {
	if !g.failed && g.word("error.type") == "" {
		return ""
	}
	return cmp.Or(firstLine(g.message), g.word("error.type"), "error")
}

func (g *genericRecord) hearTool() {
	call := event.ToolCall{
		Claim: g.claim(), ID: cmp.Or(g.id("gen_ai.tool.call.id"), g.id("gen_ai.tool.call_id")), Name: g.word("gen_ai.tool.name"),
		Type: g.word("gen_ai.tool.type"), MCPServer: g.word("mcp.server.name"), Outcome: event.OutcomeSuccess, Error: g.failure(),
	}
	if call.Error != "" {
		call.Outcome = event.OutcomeFailure
	}
	call.Command = g.document("gen_ai.tool.call.arguments").command("command", "cmd", "script")
	if g.cfg.Content.Arguments {
		call.Arguments = g.text("gen_ai.tool.call.arguments", maxContent)
	}
	if g.cfg.Content.Results {
		call.Result = g.text("gen_ai.tool.call.result", maxContent)
	}
	g.sayCall(g.record, call)
}

func (g *genericRecord) hearRequest() {
	g.say(g.at, &event.ModelRequest{
		Claim: g.claim(), Provider: cmp.Or(g.word("gen_ai.provider.name"), g.word("gen_ai.system")),
		Model: g.word("gen_ai.request.model"), ResponseModel: g.word("gen_ai.response.model"), ResponseID: g.id("gen_ai.response.id"),
		Input:     cmp.Or(g.number("gen_ai.usage.input_tokens"), g.number("gen_ai.usage.prompt_tokens")),
		Output:    cmp.Or(g.number("gen_ai.usage.output_tokens"), g.number("gen_ai.usage.completion_tokens")),
		Reasoning: g.number("gen_ai.usage.reasoning.output_tokens"), CacheRead: g.number("gen_ai.usage.cache_read.input_tokens"),
		CacheCreation: g.number("gen_ai.usage.cache_creation.input_tokens"), Duration: g.at.Sub(g.start),
		FirstChunk: min(g.milliseconds("gen_ai.response.time_to_first_chunk")*1000, maxSpan), Error: g.failure(),
	})
}

// hearAgent tells a session's start, once for each conversation.
func (g *genericRecord) hearAgent() Verdict {
	start := &event.SessionStart{
		Claim: g.claim(), Provider: cmp.Or(g.word("gen_ai.provider.name"), g.word("gen_ai.system")), Model: g.word("gen_ai.request.model"),
	}
	if start.Session == "" {
		return Silent
	}
	if _, known := g.conversations.Get(start.Session); known {
		return Silent
	}
	g.conversations.Put(start.Session, conversation{})
	g.say(g.start, start)
	return Told
}
