package wire

import (
	"iter"
	"sync"
)

// Ahead yields what messages yields, which runs in a goroutine of its own: the next message
// is read, decoded or encoded while one is used. At most one is ready and one under way.
// What ranges over it may stop at any time; messages has ended when the loop has.
func Ahead[M any](messages iter.Seq2[M, error]) iter.Seq2[M, error] {
	type made struct {
		message M
		err     error
	}
	return func(yield func(M, error) bool) {
		next, done := make(chan made), make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(done)
		wg.Go(func() {
			defer close(next)
			for m, err := range messages {
				select {
				case next <- made{m, err}:
				case <-done:
					return
				}
			}
		})
		for m := range next {
			if !yield(m.message, m.err) {
				return
			}
		}
	}
}
