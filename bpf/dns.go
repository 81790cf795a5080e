// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Kinds of the DNS probe's records (enum dns_kind).
const dnsKindAnswer = 1

// maxNameAnswers bounds the addresses taken from one message.
const maxNameAnswers = 64

// decodeDNS decodes a record of the DNS probe. The message is the network's word: one that does not
// parse, is no answer or holds no address, becomes an empty *NameAnswers, not an error.
func decodeDNS(r *Record, kind uint16, data []byte) error {
	if kind != dnsKindAnswer {
		return fmt.Errorf("%w: kind %d", errUnknown, kind)
	}
	head, rest, err := view[dnsAnswer](data)
	if err != nil {
		return err
	}
	message, _, err := take(rest, head.Size)
	if err != nil {
		return err
	}
	answers := parseAnswers(message)
	r.Payload = &answers
	return nil
}

// parseAnswers reads the first question and the addresses of a message. CNAMEs between the two are
// passed over: the name that was asked for is what the program meant.
func parseAnswers(message []byte) NameAnswers {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil || !header.Response || header.RCode != dnsmessage.RCodeSuccess {
		return NameAnswers{}
	}
	question, err := parser.Question()
	if err != nil || parser.SkipAllQuestions() != nil {
		return NameAnswers{}
	}
	answers := NameAnswers{Name: strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))}
	for len(answers.Answers) < maxNameAnswers {
		resource, err := parser.AnswerHeader()
		if err != nil {
			break // the end, or what follows does not parse: what came before does
		}
		answer := NameAnswer{TTL: time.Duration(resource.TTL) * time.Second}
		switch resource.Type {
		case dnsmessage.TypeA:
			body, err := parser.AResource()
			if err != nil {
				return answers
			}
			answer.Addr = netip.AddrFrom4(body.A)
		case dnsmessage.TypeAAAA:
			body, err := parser.AAAAResource()
			if err != nil {
				return answers
			}
			answer.Addr = netip.AddrFrom16(body.AAAA).Unmap()
		default:
			if parser.SkipAnswer() != nil {
				return answers
			}
			continue
		}
		answers.Answers = append(answers.Answers, answer)
	}
	return answers
}
