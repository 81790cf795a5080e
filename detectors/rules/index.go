// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/watchglass/watchglass/event"

// candidate is one stage of a rule that an event may be.
type candidate struct {
	*running
	stage int
}

// index finds the candidates of one kind of event: by the value of the attribute that they need, where they
// need one, so that a hundred rules about a hundred programs cost one look-up.
type index struct {
	by []valueIndex
	// rest is those that need no value.
	rest []candidate
}

type valueIndex struct {
	slot    int
	texts   map[string][]candidate
	numbers map[int64][]candidate
}

func (x *index) add(c candidate) {
	guards := c.stages[c.stage].when.guards
	if len(guards) == 0 || guards[0].test > guardNumber {
		x.rest = append(x.rest, c)
		return
	}
	slot := guards[0].slot
	at := -1
	for i := range x.by {
		if x.by[i].slot == slot {
			at = i
		}
	}
	if at < 0 {
		at = len(x.by)
		x.by = append(x.by, valueIndex{slot: slot, texts: map[string][]candidate{}, numbers: map[int64][]candidate{}})
	}
	if g := &guards[0]; g.test == guardNumber {
		x.by[at].numbers[g.number] = append(x.by[at].numbers[g.number], c)
	}
	for _, text := range guards[0].texts {
		x.by[at].texts[text] = append(x.by[at].texts[text], c)
	}
}

// find calls found for every candidate whose first guard holds.
func (x *index) find(v *values, found func(candidate)) {
	for i := range x.by {
		by := &x.by[i]
		value, _ := v.get(by.slot)
		matching := by.numbers[value.AsInt()]
		if v.l.forms[by.slot] == event.ValueString {
			if text, plain := value.Plain(); plain {
				matching = by.texts[text]
			} else {
				v.text = value.AppendString(v.text[:0])
				matching = by.texts[string(v.text)]
			}
		}
		for _, c := range matching {
			found(c)
		}
	}
	for _, c := range x.rest {
		found(c)
	}
}
