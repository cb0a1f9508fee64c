package sim

// A mutant is a fault of the product's own kind, put between a device and the master: a
// run has to find it. The zero mutant changes nothing.
type mutant struct {
	req func(w *world, q request) request
	ans func(w *world, q request, a *answer) *answer
}

func (m mutant) request(w *world, q request) request {
	if m.req == nil {
		return q
	}
	return m.req(w, q)
}

func (m mutant) answer(w *world, q request, a *answer) *answer {
	if m.ans == nil {
		return a
	}
	return m.ans(w, q, a)
}
