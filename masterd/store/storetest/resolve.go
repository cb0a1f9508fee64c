package storetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/capture/change"
)

func testResolve(t *testing.T, c Config) {
	t.Run("of two concurrent updates the greater rank stays, whoever comes first", func(t *testing.T) {
		for _, first := range []string{"loser", "winner"} {
			_, a, b := pair(t, c, put("notes", "k", note("t", "b")))
			x, y := a, b
			if first == "winner" {
				x, y = b, a
			}
			w := map[*client]float64{a: 0, b: 1}
			at := map[*client]int64{a: 9}
			v := map[*client]string{a: "of a", b: "of b"}
			x.push(put("notes", "k", values{"title": v[x]}).ranked(w[x], at[x]))
			y.sync(put("notes", "k", values{"title": v[y]}).ranked(w[y], at[y]))
			agree(t, a, b)
			a.has("notes", map[change.Value]values{"k": note("of b", "b")})
			b.heard()
			l := a.heard(change.UpdateLost)[0]
			lostSeen, keptSeq := change.Seq(1), change.Seq(2)
			if first == "loser" {
				lostSeen, keptSeq = 2, 3
			}
			want := change.Conflict{
				ID: 1, Seq: 3, Device: a.id, Table: "notes", Key: "k", Kind: change.UpdateLost, Rule: change.ByWeight,
				Columns: []string{"title"}, Lost: []change.Value{"of a"}, Kept: []change.Value{"of b"},
				LostClock: change.Clock{"master": uint64(lostSeen), a.id.String(): 2},
				KeptClock: change.Clock{"master": uint64(keptSeq), b.id.String(): 1},
				LostRank:  change.Rank{Weight: 0, Time: 9, Device: a.id},
				KeptRank:  change.Rank{Weight: 1, Device: b.id},
			}
			if d := cmp.Diff(want, l); d != "" {
				t.Errorf("%s first: conflict (-want +got):\n%s", first, d)
			}
			if l.LostClock.Compare(l.KeptClock) != change.Concurrent {
				t.Errorf("clocks %v and %v are not concurrent", l.LostClock, l.KeptClock)
			}
		}
	})
	t.Run("an edit that follows wins whatever its weight", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")).ranked(5, 0))
		b.sync(put("notes", "k", values{"title": "2"}).ranked(-5, 0))
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": note("2", "b")})
		if st := m.stats(); st.Conflicts != 0 {
			t.Errorf("%d conflicts", st.Conflicts)
		}
	})
	t.Run("an update against a delete", func(t *testing.T) {
		for _, x := range []struct {
			name        string
			update      float64
			updateFirst bool
			want        bool
			heard       change.Kind
		}{
			{"the update wins and comes first", 1, true, true, change.DeleteLost},
			{"the update wins and comes last", 1, false, true, change.DeleteLost},
			{"the delete wins and comes last", -1, true, false, change.UpdateLostToDelete},
			{"the delete wins and comes first", -1, false, false, change.UpdateLostToDelete},
		} {
			t.Run(x.name, func(t *testing.T) {
				m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
				update, remove := put("notes", "k", values{"title": "new"}).ranked(x.update, 0), del("notes", "k")
				if x.updateFirst {
					a.push(update)
					b.sync(remove)
				} else {
					b.push(remove)
					a.sync(update)
				}
				agree(t, a, b)
				loser, kept := a, b
				if x.want {
					loser, kept = b, a
					a.has("notes", map[change.Value]values{"k": note("new", "b")})
				} else {
					a.has("notes", nil)
				}
				kept.heard()
				l := loser.heard(x.heard)[0]
				if x.want && (l.Lost != nil || len(l.Columns) != 3 || l.Kept[0] != "new") ||
					!x.want && (l.Kept != nil || len(l.Columns) != 1 || l.Lost[0] != "new") {
					t.Errorf("conflict %+v", l)
				}
				if st := m.stats(); st.Conflicts != 1 || st.Rows+st.Tombstones != 1 || (st.Rows == 1) != x.want {
					t.Errorf("stats %+v", st)
				}
			})
		}
	})
	t.Run("two deletes agree", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		a.push(del("notes", "k"))
		b.push(del("notes", "k"))
		agree(t, a, b)
		if st := m.stats(); st.Conflicts != 0 || st.Tombstones != 1 || st.Rows != 0 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("a row deleted and made again", func(t *testing.T) {
		_, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		a.sync(del("notes", "k"))
		b.sync()
		b.has("notes", nil)
		a.sync(put("notes", "k", note("again", "c")))
		agree(t, a, b)
		b.has("notes", map[change.Value]values{"k": note("again", "c")})
	})
	t.Run("a row that comes back has what merged into it while it was deleted", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		n := newClient(t, m.space, 3, notesTables(t))
		n.sync()
		a.push(del("notes", "k").ranked(2, 0))
		b.push(put("notes", "k", values{"title": "of b"}).ranked(1, 0)) // loses to the delete
		n.push(put("notes", "k", values{"body": "of n"}).ranked(3, 0))  // wins: the row is back
		agree(t, a, b, n)
		a.has("notes", map[change.Value]values{"k": {"title": "of b", "body": "of n", "model": "m"}})
		a.heard(change.DeleteLost)
		b.heard(change.UpdateLostToDelete)
	})
	t.Run("a row that comes back is new for its author too", func(t *testing.T) {
		_, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		a.push(put("notes", "k", values{"title": "of a"}).ranked(0, 0))
		a.push(del("notes", "k").ranked(0, 0))
		b.push(put("notes", "k", values{"body": "of b"}).ranked(1, 0))
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": {"title": "of a", "body": "of b", "model": "m"}})
	})
	t.Run("a delete of what was never here is nothing", func(t *testing.T) {
		m, a, b := pair(t, c)
		a.sync(del("notes", "never"))
		agree(t, a, b)
		if st := m.stats(); st.Rows != 0 || st.Tombstones != 0 || st.Conflicts != 0 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("part of an unknown row goes to the log", func(t *testing.T) {
		m, a, b := pair(t, c)
		a.sync(put("notes", "k", values{"title": "t"}))
		agree(t, a, b)
		a.has("notes", nil)
		l := a.heard(change.LostToForgotten)[0]
		if l.Kept != nil || len(l.Columns) != 1 || l.Lost[0] != "t" || l.Rule != change.ByForgotten || l.KeptClock != nil {
			t.Errorf("conflict %+v", l)
		}
		if st := m.stats(); st.Rows != 0 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("a version pushed back after a restore ranks below every live edit", func(t *testing.T) {
		_, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		a.push(put("notes", "k", values{"title": "live"}).ranked(-change.MaxWeight, 0))
		b.now = 1_800_000_000_000 // its clock is wrong, which does not matter
		b.sync(put("notes", "k", values{"title": "back"}).ranked(change.PushedBack, 1<<40))
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": note("live", "b")})
		if l := b.heard(change.UpdateLost)[0]; l.LostRank.Time != 1<<40 {
			t.Errorf("its time %d was taken for a clock's", l.LostRank.Time)
		}
	})
	t.Run("a delete of a row that was lost stands, without its values", func(t *testing.T) {
		m, a, b := pair(t, c)
		a.push(del("notes", "k").ofLost().ranked(1, 0))
		b.push(put("notes", "k", values{"title": "a part"}).ranked(9, 0)) // outranks it, and makes no row
		b.push(put("notes", "k", note("back", "b")).ranked(change.PushedBack, 7))
		agree(t, a, b)
		a.has("notes", nil)
		a.heard()
		if l := b.heard(change.LostToForgotten, change.UpdateLostToDelete); l[0].Kept != nil || l[1].Kept != nil || l[1].LostRank.Time != 7 || len(l[1].Lost) != len(note("", "")) {
			t.Errorf("conflicts %+v", l)
		}
		if st := m.stats(); st.Rows != 0 || st.Tombstones != 1 {
			t.Errorf("stats %+v", st)
		}
		m.reopen(a, b)
		b.push(put("notes", "k", values{"title": "a part"}).seeing(0).ranked(9, 0)) // of what was pushed back
		agree(t, a, b)
		b.has("notes", map[change.Value]values{"k": note("a part", "b")})
		a.heard(change.DeleteLost)
	})
	t.Run("an edit repeated in one push", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		a.sync(put("notes", "k", values{"title": "1"}), put("notes", "k", values{"title": "2"}), del("notes", "k"), put("notes", "k", note("3", "c")),
			put("notes", "l", note("1", "1")), del("notes", "l"), put("notes", "m", note("1", "1")), put("notes", "m", values{"title": "2"}))
		agree(t, a, b)
		b.has("notes", map[change.Value]values{"k": note("3", "c"), "m": note("2", "1")})
		if st := m.stats(); st.Conflicts != 0 || st.Rows != 2 || st.Tombstones != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}
