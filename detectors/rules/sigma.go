// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// sigma is the part of a Sigma rule that is read: see the Sigma specification, version 2.
type sigma struct {
	Title       string               `yaml:"title"`
	ID          string               `yaml:"id"`
	Description string               `yaml:"description"`
	Author      string               `yaml:"author"`
	License     string               `yaml:"license"`
	References  []string             `yaml:"references"`
	Tags        []string             `yaml:"tags"`
	Level       string               `yaml:"level"`
	False       yaml.Node            `yaml:"falsepositives"`
	Detection   map[string]yaml.Node `yaml:"detection"`
	LogSource   struct {
		Product  string `yaml:"product"`
		Category string `yaml:"category"`
		Service  string `yaml:"service"`
	} `yaml:"logsource"`
}

// sigmaField is how a field of Sigma is said in a condition.
type sigmaField struct {
	expression string
	// caseless says that upper and lower case are the same, as everywhere in Sigma. Paths on Linux differ by case.
	caseless bool
	// number says that it is compared as a number; address that it is an address.
	number, address bool
}

// sigmaCategory is a category of log sources that the kernel's events can stand for.
type sigmaCategory struct {
	on     string
	always string
	fields map[string]sigmaField
}

func sigmaCategories() map[string]sigmaCategory {
	image := sigmaField{expression: "process.executable.path"}
	user := sigmaField{expression: `(process.user.id == 0 ? "root" : "")`}
	return map[string]sigmaCategory{
		"process_creation": {on: "process.exec", fields: map[string]sigmaField{
			"Image": image, "User": user,
			"CommandLine":      {expression: `process.command_args.join(" ")`, caseless: true},
			"CurrentDirectory": {expression: "process.working_directory"},
			// Of the parent its name is known: enough for what ends in it.
			"ParentImage": {expression: `(ancestors.size() > 0 ? "/" + ancestors[0] : "")`},
		}},
		"file_event": {
			on:     "file.open",
			always: `!present(error.type) && ("write" in watchglass.file.access || "create" in watchglass.file.access)`,
			fields: map[string]sigmaField{"TargetFilename": {expression: "file.path"}, "Image": image, "User": user},
		},
		"network_connection": {on: "network.connect", fields: map[string]sigmaField{
			"DestinationIp":       {expression: "network.peer.address", address: true},
			"DestinationPort":     {expression: "network.peer.port", number: true},
			"DestinationHostname": {expression: "server.address", caseless: true},
			"Image":               image, "User": user,
		}},
		"dns_query": {on: "dns.query", fields: map[string]sigmaField{
			"QueryName": {expression: "dns.question.name", caseless: true}, "Image": image,
		}},
	}
}

// maxSigma is the most words of a condition, and values of a field.
const maxSigma = 512

// ImportSigma converts Sigma rules. The result is a file of rules of this package's format with those that
// could be converted, nil when none could; each error is an *Error that says of one rule why it could not.
func ImportSigma(sources ...Source) (file []byte, converted int, failures []error) {
	l, err := newLanguage() // once: it takes longer than to convert many rules
	if err != nil {
		return nil, 0, []error{err}
	}
	patterns := newPatterns()
	var rules []map[string]any
	for _, source := range sources {
		if len(source.Data) > maxFile {
			failures = append(failures, &Error{File: source.Name, Reason: fmt.Sprintf("the file has more than %d bytes", maxFile)})
			continue
		}
		decoder := yaml.NewDecoder(bytes.NewReader(source.Data))
		for n := 1; ; n++ {
			var s sigma
			err := decoder.Decode(&s)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				failures = append(failures, yamlErrors(source.Name, err))
				break
			}
			rule, err := s.convert(l, patterns, source.Name)
			if err != nil {
				failures = append(failures, &Error{File: source.Name, Rule: s.Title, Reason: err.Error()})
				continue
			}
			rules = append(rules, rule)
		}
	}
	if len(rules) == 0 {
		return nil, 0, failures
	}
	out, err := yaml.Marshal(map[string]any{"version": format, "rules": rules})
	if err != nil {
		return nil, 0, append(failures, err)
	}
	return out, len(rules), failures
}

// convert makes the rule, and sees that it loads.
func (s *sigma) convert(l *language, patterns patterns, file string) (map[string]any, error) {
	if p := s.LogSource.Product; p != "" && p != "linux" {
		return nil, fmt.Errorf("it is for %s", p)
	}
	category, known := sigmaCategories()[s.LogSource.Category]
	if !known || s.LogSource.Service != "" {
		return nil, fmt.Errorf("its log source (category %q, service %q) has no events here", s.LogSource.Category, s.LogSource.Service)
	}
	if _, known := l.kinds[category.on]; !known {
		return nil, fmt.Errorf("there are no events %s yet", category.on)
	}
	c := &sigmaConverter{category: category, detection: s.Detection}
	condition, err := c.condition()
	if err != nil {
		return nil, err
	}
	if category.always != "" {
		condition = category.always + " && (" + condition + ")"
	}
	severity := map[string]string{
		"informational": "info", "low": "low", "medium": "medium", "high": "high", "critical": "critical",
	}[s.Level]
	if severity == "" {
		return nil, fmt.Errorf("its level is %q", s.Level)
	}
	rule := map[string]any{
		"id": sigmaID(s.Title, s.ID), "uuid": s.ID, "version": "1", "title": s.Title, "severity": severity,
		"on": []string{category.on}, "condition": condition, "false_positives": s.falsePositives(),
		"description": strings.TrimSpace(fmt.Sprintf("%s\nConverted from the Sigma rule in %s by %s, licence %s.",
			strings.TrimSpace(s.Description), file, orUnknown(s.Author), orUnknown(s.License))),
	}
	if techniques := s.techniques(patterns.technique); len(techniques) > 0 {
		rule["attack"] = techniques
	}
	if len(s.References) > 0 {
		rule["runbook"] = s.References[0]
	}
	out, err := yaml.Marshal(map[string]any{"version": format, "rules": []any{rule}})
	if err != nil {
		return nil, fmt.Errorf("writing it: %w", err)
	}
	if _, err := l.load(Source{Name: "converted", Data: out}); err != nil {
		return nil, fmt.Errorf("what it becomes does not load: %w", err)
	}
	return rule, nil
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// sigmaID makes an id of a title: "Suspicious Curl" is "sigma-suspicious-curl".
func sigmaID(title, uuid string) string {
	const most = 48
	name := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(title), "-"), "-")
	name = strings.TrimRight(name[:min(len(name), most)], "-")
	// Titles repeat; the start of the uuid does not.
	return "sigma-" + name + "-" + uuid[:min(len(uuid), 4)]
}

func (s *sigma) techniques(form *regexp.Regexp) []string {
	var ids []string
	for _, tag := range s.Tags {
		if id, ok := strings.CutPrefix(strings.ToLower(tag), "attack.t"); ok && form.MatchString("T"+id) {
			ids = append(ids, "T"+id)
		}
	}
	return ids
}

func (s *sigma) falsePositives() string {
	var list []string
	if err := s.False.Decode(&list); err == nil {
		return strings.Join(list, "; ")
	}
	return s.False.Value
}

// sigmaConverter makes the condition of one rule.
type sigmaConverter struct {
	category  sigmaCategory
	detection map[string]yaml.Node
	tokens    []string
	depth     int
}

func (c *sigmaConverter) condition() (string, error) {
	node, ok := c.detection["condition"]
	if !ok || node.Kind != yaml.ScalarNode {
		return "", errors.New("its condition is not one text")
	}
	if strings.Contains(node.Value, "|") {
		return "", errors.New("its condition aggregates")
	}
	c.tokens = strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(node.Value))
	if len(c.tokens) > maxSigma {
		return "", errors.New("its condition is too long")
	}
	expression, err := c.or()
	if err == nil && len(c.tokens) > 0 {
		err = fmt.Errorf("its condition has %q where nothing can follow", c.tokens[0])
	}
	return expression, err
}

func (c *sigmaConverter) take() string {
	if len(c.tokens) == 0 {
		return ""
	}
	token := c.tokens[0]
	c.tokens = c.tokens[1:]
	return token
}

func (c *sigmaConverter) next(word string) bool {
	if len(c.tokens) > 0 && strings.EqualFold(c.tokens[0], word) {
		c.take()
		return true
	}
	return false
}

func (c *sigmaConverter) or() (string, error)  { return c.chain(c.and, "or", " || ") }
func (c *sigmaConverter) and() (string, error) { return c.chain(c.not, "and", " && ") }

func (c *sigmaConverter) chain(operand func() (string, error), word, operator string) (string, error) {
	var parts []string
	for {
		part, err := operand()
		if err != nil {
			return "", err
		}
		if parts = append(parts, part); !c.next(word) {
			return joined(parts, operator), nil
		}
	}
}

func joined(parts []string, operator string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, operator) + ")"
}

func (c *sigmaConverter) not() (string, error) {
	if c.next("not") {
		operand, err := c.operand()
		return "!" + operand, err
	}
	return c.operand()
}

func (c *sigmaConverter) operand() (string, error) {
	if c.depth++; c.depth > maxSigma {
		return "", errors.New("its condition is too deep")
	}
	if c.next("(") {
		inner, err := c.or()
		if err == nil && !c.next(")") {
			err = errors.New("its condition lacks a )")
		}
		return "(" + inner + ")", err
	}
	word := c.take()
	if (word == "1" || strings.EqualFold(word, "all") || strings.EqualFold(word, "any")) && c.next("of") {
		return c.several(word, c.take())
	}
	node, ok := c.detection[word]
	if !ok || word == "condition" || word == "timeframe" {
		return "", fmt.Errorf("its condition names %q, which is no selection", word)
	}
	return c.selection(&node)
}

// several is "1 of selection_*" and "all of them".
func (c *sigmaConverter) several(quantity, pattern string) (string, error) {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c.detection)) {
		prefix, wild := strings.CutSuffix(pattern, "*")
		switch {
		case name == "condition" || name == "timeframe":
			continue
		case pattern == "them", wild && strings.HasPrefix(name, prefix), name == pattern:
		default:
			continue
		}
		node := c.detection[name]
		part, err := c.selection(&node)
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return "", fmt.Errorf("no selection matches %q", pattern)
	}
	if strings.EqualFold(quantity, "all") {
		return joined(parts, " && "), nil
	}
	return joined(parts, " || "), nil
}

// selection is a map, all of whose fields must match, or a list of maps, one of which must.
func (c *sigmaConverter) selection(n *yaml.Node) (string, error) {
	var parts []string
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if item.Kind != yaml.MappingNode {
				return "", errors.New("it searches for words anywhere, and events have fields")
			}
			part, err := c.selection(item)
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
		}
		return joined(parts, " || "), nil
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			part, err := c.field(n.Content[i].Value, n.Content[i+1])
			if err != nil {
				return "", err
			}
			if part != "" {
				parts = append(parts, part)
			}
		}
		if len(parts) == 0 {
			return "true", nil
		}
		return joined(parts, " && "), nil
	case yaml.DocumentNode, yaml.ScalarNode, yaml.AliasNode:
	}
	return "", errors.New("a selection is neither a map nor a list of maps")
}

func (c *sigmaConverter) field(name string, n *yaml.Node) (string, error) {
	words := strings.Split(name, "|")
	if words[0] == "Initiated" { // all that is seen here was
		return "", nil
	}
	f, known := c.category.fields[words[0]]
	if !known {
		return "", fmt.Errorf("the field %s is not known of %s events", words[0], c.category.on)
	}
	var values []string
	switch n.Kind {
	case yaml.ScalarNode:
		values = []string{n.Value}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			values = append(values, item.Value)
		}
	case yaml.DocumentNode, yaml.MappingNode, yaml.AliasNode:
		return "", fmt.Errorf("the field %s has a map for a value", words[0])
	}
	if len(values) == 0 || len(values) > maxSigma {
		return "", fmt.Errorf("the field %s has %d values", words[0], len(values))
	}
	operator, how := " || ", ""
	for _, modifier := range words[1:] {
		switch modifier {
		case "all":
			operator = " && "
		case "contains", "startswith", "endswith", "re", "cidr":
			how = modifier
		default:
			return "", fmt.Errorf("the modifier %s is not supported", modifier)
		}
	}
	var parts []string
	for _, value := range values {
		part, err := f.match(value, how)
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
	}
	return joined(parts, operator), nil
}

// match is one comparison.
func (f sigmaField) match(value, how string) (string, error) {
	if f.number {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || how != "" {
			return "", fmt.Errorf("%q is compared as a number", value)
		}
		return fmt.Sprintf("%s == %d", f.expression, n), nil
	}
	expression := f.expression
	if how == "cidr" {
		if !f.address {
			return "", errors.New("the modifier cidr is for addresses")
		}
		return fmt.Sprintf("(%s != \"\" && cidr(%s).containsIP(%s))", expression, strconv.Quote(value), expression), nil
	}
	if how == "re" {
		return fmt.Sprintf("%s.matches(%s)", expression, strconv.Quote(value)), nil
	}
	if strings.ContainsAny(value, "*?") {
		return fmt.Sprintf("%s.matches(%s)", expression, strconv.Quote(wildcards(value, how, f.caseless))), nil
	}
	if f.caseless {
		expression, value = expression+".lowerAscii()", strings.ToLower(value)
	}
	method := map[string]string{"contains": "contains", "startswith": "startsWith", "endswith": "endsWith"}[how]
	if method == "" {
		return fmt.Sprintf("%s == %s", expression, strconv.Quote(value)), nil
	}
	return fmt.Sprintf("%s.%s(%s)", expression, method, strconv.Quote(value)), nil
}

// wildcards is a text with * and ? as a regular expression. A backslash makes either itself.
func wildcards(value, how string, caseless bool) string {
	var b strings.Builder
	if caseless {
		b.WriteString("(?i)")
	}
	if how != "contains" && how != "endswith" {
		b.WriteByte('^')
	}
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\' && i+1 < len(value) && strings.IndexByte(`*?\`, value[i+1]) >= 0:
			i++
			b.WriteString(regexp.QuoteMeta(value[i : i+1]))
		case c == '*':
			b.WriteString(".*")
		case c == '?':
			b.WriteByte('.')
		default:
			b.WriteString(regexp.QuoteMeta(value[i : i+1]))
		}
	}
	if how != "contains" && how != "startswith" {
		b.WriteByte('$')
	}
	return b.String()
}
