// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/watchglass/watchglass/event"
)

// The fields of an ExportLogsServiceRequest and of what is in it.
const (
	requestResourceLogs                           protowire.Number = 1
	resourceLogsResource, resourceLogsScope       protowire.Number = 1, 2
	scopeLogsScope, scopeLogsRecords, scopeSchema protowire.Number = 1, 2, 3
	scopeFieldName                                protowire.Number = 1
	resourceLogsSchema                            protowire.Number = 3
)

// Assembler puts records together into requests by their bytes, without looking into them. It keeps its
// scratch space and is not for use by more than one goroutine.
type Assembler struct {
	// foreign is true when the records are in the words of another schema than the resources: they get no schema URL.
	foreign bool

	groups []group
	// next is, for each record of the batch, the following one of the same resource, or -1.
	next []int
	by   map[string]int
}

// group is the records of a batch that share a resource.
type group struct {
	resource    []byte
	first, last int
	// records is the encoded size of the records with their tags and lengths.
	records int
}

// Append appends an ExportLogsServiceRequest of the batch's records. They are grouped by resource, in the
// order in which the resources first come, and keep their order inside.
func (a *Assembler) Append(dst []byte, batch []event.Encoded) []byte {
	a.group(batch)
	for i := range a.groups {
		dst = a.appendGroup(dst, &a.groups[i], batch)
	}
	clear(a.groups)
	clear(a.by)
	return dst
}

func (a *Assembler) group(batch []event.Encoded) {
	a.groups, a.next = a.groups[:0], a.next[:0]
	if a.by == nil {
		a.by = map[string]int{}
	}
	at := -1
	for i := range batch {
		e := &batch[i]
		a.next = append(a.next, -1)
		if at < 0 || !bytes.Equal(a.groups[at].resource, e.Resource) {
			at = a.find(e.Resource, i)
		}
		g := &a.groups[at]
		if g.last != i {
			a.next[g.last], g.last = i, i
		}
		g.records += sizeField(scopeLogsRecords, len(e.Record))
	}
}

// find is the group of the resource, a new one that begins with record i where there is none.
func (a *Assembler) find(resource []byte, i int) int {
	if at, ok := a.by[string(resource)]; ok {
		return at
	}
	a.groups = append(a.groups, group{resource: resource, first: i, last: i})
	a.by[string(resource)] = len(a.groups) - 1
	return len(a.groups) - 1
}

func (a *Assembler) appendGroup(dst []byte, g *group, batch []event.Encoded) []byte {
	scope := sizeField(scopeFieldName, len(scopeName))
	scopeLogs := sizeField(scopeLogsScope, scope) + g.records
	if !a.foreign {
		scopeLogs += sizeField(scopeSchema, len(event.SchemaURL))
	}
	dst = appendLength(dst, requestResourceLogs, sizeField(resourceLogsResource, len(g.resource))+
		sizeField(resourceLogsScope, scopeLogs)+sizeField(resourceLogsSchema, len(event.SchemaURL)))
	dst = append(appendLength(dst, resourceLogsResource, len(g.resource)), g.resource...)
	dst = appendLength(dst, resourceLogsScope, scopeLogs)
	dst = appendText(appendLength(dst, scopeLogsScope, scope), scopeFieldName, scopeName)
	for i := g.first; i >= 0; i = a.next[i] {
		dst = append(appendLength(dst, scopeLogsRecords, len(batch[i].Record)), batch[i].Record...)
	}
	if !a.foreign {
		dst = appendText(dst, scopeSchema, event.SchemaURL)
	}
	return appendText(dst, resourceLogsSchema, event.SchemaURL)
}

// appendLength appends the tag and the length of a field of n bytes.
func appendLength(dst []byte, number protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, number, protowire.BytesType), uint64(n))
}

// sizeField is the size of a field of n bytes with its tag and length.
func sizeField(number protowire.Number, n int) int {
	return protowire.SizeTag(number) + protowire.SizeBytes(n)
}
