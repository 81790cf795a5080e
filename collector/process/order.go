// SPDX-License-Identifier: Apache-2.0

package process

// order is processes in the order in which something happened to them. Each is in one order at most, by links of its own:
// an entry in a list would be one more allocation for each birth and each end.
type order struct{ front, back *node }

func (o *order) push(n *node) {
	n.previous, n.next = o.back, nil
	if o.back == nil {
		o.front = n
	} else {
		o.back.next = n
	}
	o.back = n
}

func (o *order) remove(n *node) {
	if n.previous == nil {
		o.front = n.next
	} else {
		n.previous.next = n.next
	}
	if n.next == nil {
		o.back = n.previous
	} else {
		n.next.previous = n.previous
	}
	n.previous, n.next = nil, nil
}
