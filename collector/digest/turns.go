// SPDX-License-Identifier: Apache-2.0

package digest

// turns is requests that wait, one queue for each sandbox, which take turns: none waits for all that another one has
// executed. A sandbox may have as many waiting as there is room left: however many it asks for, half of the room stays
// for the others, and where several ask for too much they get equal shares and leave one more.
type turns struct {
	room   int
	queues map[string][]waiting
	// order is the sandboxes with something waiting, the next one first.
	order []string
}

// add takes a request, unless its sandbox has no more room.
func (t *turns) add(w waiting) bool {
	sandbox := w.request.Sandbox
	queue := t.queues[sandbox]
	if len(queue) >= t.room {
		return false
	}
	if len(queue) == 0 {
		t.order = append(t.order, sandbox)
	}
	t.queues[sandbox] = append(queue, w)
	t.room--
	return true
}

// next is the request whose turn it is, if any.
func (t *turns) next() (waiting, bool) {
	if len(t.order) == 0 {
		return waiting{}, false
	}
	sandbox := t.order[0]
	t.order = t.order[1:]
	queue := t.queues[sandbox]
	if len(queue) == 1 {
		delete(t.queues, sandbox)
	} else {
		t.queues[sandbox] = queue[1:]
		t.order = append(t.order, sandbox)
	}
	t.room++
	return queue[0], true
}
