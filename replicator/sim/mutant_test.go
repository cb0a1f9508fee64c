package sim

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// alter makes a mutant that changes pushes, but for requests for pages. f says whether it
// did.
func alter(f func(w *world, p *change.Push) bool) mutant {
	return mutant{req: func(w *world, q request) request {
		if q.push == nil || q.push.Paging {
			return q
		}
		p, err := wire.DecodePush(q.body, wire.Limits{})
		w.must(err, "read a push")
		if !f(w, p) {
			return q
		}
		q.body, err = wire.EncodePush(p)
		w.must(err, "write a push")
		q.header = q.header.Clone()
		q.header.Set("Content-Digest", wire.Digest(q.body))
		return q
	}}
}

// stamps changes the stamp of each row.
func stamps(f func(p *change.Push, s *change.EditStamp)) mutant {
	return alter(func(_ *world, p *change.Push) bool {
		for i := range p.Blocks {
			for j := range p.Blocks[i].Stamps {
				f(p, &p.Blocks[i].Stamps[j])
			}
		}
		return len(p.Blocks) > 0
	})
}

// answers makes a mutant that changes what a device pulls.
func answers(f func(w *world, q request, p *change.Pull) *change.Pull) mutant {
	return mutant{ans: func(w *world, q request, a *answer) *answer {
		if q.push == nil || q.push.More || a.status != 200 {
			return a
		}
		p, err := wire.DecodePull(a.body.Bytes(), wire.Limits{})
		w.must(err, "read a pull")
		body, err := wire.EncodePull(f(w, q, p))
		w.must(err, "write a pull")
		b := &answer{status: a.status, header: a.header.Clone()}
		b.body.Write(body)
		b.header.Set("Content-Digest", wire.Digest(body))
		return b
	}}
}

// TestMutants puts faults back, one at a time. The simulation has to find each, soon.
func TestMutants(t *testing.T) {
	before := make(map[*device]*change.Pull)
	for _, c := range []struct {
		name   string
		seeds  int64
		mutant mutant
		life   bool
	}{
		{"an edit says that it has seen all that its device has", 20, stamps(func(p *change.Push, s *change.EditStamp) {
			s.Seen, s.Existence = p.Seen, p.Seen
			for i := range s.Regs {
				s.Regs[i].Seen = p.Seen
			}
		}), false},
		{"an edit says that it has seen nothing", 5, stamps(func(_ *change.Push, s *change.EditStamp) {
			s.Seen, s.Existence, s.Regs = 0, 0, nil
		}), false},
		{"every edit is the heaviest", 5, stamps(func(_ *change.Push, s *change.EditStamp) { s.Weight = change.MaxWeight }), false},
		{"a tie goes to whoever asks", 10, stamps(func(_ *change.Push, s *change.EditStamp) { s.Time++ }), false},
		{"registers lose the lsn of their own", 20, stamps(func(_ *change.Push, s *change.EditStamp) {
			for i := range s.Regs {
				s.Regs[i].LSN = s.LSN
			}
		}), false},
		{"steps of counters lose the lsn of their own", 20, stamps(func(_ *change.Push, s *change.EditStamp) {
			for i := range s.Steps {
				s.Steps[i].LSN = s.LSN
			}
		}), false},
		{"counters travel by their values", 10, stamps(func(_ *change.Push, s *change.EditStamp) { s.Steps = nil }), false},
		{"a row of a push is dropped", 10, alter(func(_ *world, p *change.Push) bool {
			if len(p.Blocks) < 2 {
				return false
			}
			p.Blocks = p.Blocks[1:]
			return true
		}), false},
		{"a device's clock is believed", 10, alter(func(_ *world, p *change.Push) bool {
			p.Now = 0
			return len(p.Blocks) > 0
		}), false},
		{"a page is dropped", 10, answers(func(_ *world, _ request, p *change.Pull) *change.Pull {
			if !p.Done {
				p.Blocks = nil
			}
			return p
		}), false},
		{"a pull ends with its first page", 10, answers(func(_ *world, _ request, p *change.Pull) *change.Pull {
			p.Done = true
			return p
		}), false},
		{"deletes are not pulled", 10, answers(func(_ *world, _ request, p *change.Pull) *change.Pull {
			var kept []change.Block
			for _, b := range p.Blocks {
				if !b.Delete {
					kept = append(kept, b)
				}
			}
			p.Blocks = kept
			return p
		}), false},
		{"an answer is an old one", 10, answers(func(w *world, q request, p *change.Pull) *change.Pull {
			old := before[q.d]
			before[q.d] = p
			if old != nil && old.Done && w.chance(.3) {
				return old
			}
			return p
		}), false},
		{"the loser does not hear of a conflict", 10, answers(func(_ *world, _ request, p *change.Pull) *change.Pull {
			p.Lost = nil
			return p
		}), false},
		{"what is pushed back is dropped", 20, alter(func(_ *world, p *change.Push) bool {
			n := len(p.Blocks)
			p.Blocks = slices.DeleteFunc(p.Blocks, func(b change.Block) bool {
				return slices.ContainsFunc(b.Stamps, func(s change.EditStamp) bool { return s.Weight == change.PushedBack })
			})
			return len(p.Blocks) < n
		}), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := int64(1); seed <= c.seeds; seed++ {
				clear(before)
				_, err := Run(seed, Options{Life: c.life, mutant: c.mutant})
				var found *Failure
				if errors.As(err, &found) {
					t.Logf("seed %d: %.300s", seed, strings.Join(strings.Fields(found.What), " "))
					return
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Errorf("not found in %d seeds", c.seeds)
		})
	}
}
