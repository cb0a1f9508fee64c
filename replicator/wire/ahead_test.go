package wire

import (
	"errors"
	"testing"
	"testing/synctest"
)

func TestAhead(t *testing.T) {
	failed := errors.New("the third is damaged")
	synctest.Test(t, func(t *testing.T) {
		made, ended := 0, false
		messages := func(yield func(int, error) bool) {
			defer func() { ended = true }()
			for n := range 4 {
				made++
				var err error
				if n == 2 {
					err = failed
				}
				if !yield(n, err) {
					return
				}
			}
		}
		used := 0
		for n, err := range Ahead(messages) {
			synctest.Wait()
			if n != used || (n == 2) != errors.Is(err, failed) {
				t.Errorf("message %d came with error %v as number %d", n, err, used)
			}
			if used++; made != min(used+1, 4) {
				t.Errorf("as message %d is used %d are made, want one more", n, made)
			}
		}
		if used != 4 {
			t.Errorf("%d messages came, want 4", used)
		}
		made, ended = 0, false
		for range Ahead(messages) {
			break
		}
		if !ended || made > 2 {
			t.Errorf("as the loop was left %d messages were made, ended %v", made, ended)
		}
	})
}
