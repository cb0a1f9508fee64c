package storetest

import (
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

func testCounters(t *testing.T, c Config) {
	is := func(d *client, n int64) {
		t.Helper()
		d.has("counts", map[change.Value]values{"k": counted(n)})
	}
	t.Run("concurrent steps add up, and no one has lost", func(t *testing.T) {
		m, a, b := countsPair(t, c)
		a.push(adds(a, 3))
		b.sync(adds(b, -1))
		agree(t, a, b)
		is(a, 12)
		a.heard()
		b.heard()
		if st := m.stats(); st.Conflicts != 0 {
			t.Errorf("%d conflicts", st.Conflicts)
		}
	})
	t.Run("an answer that was lost counts once", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		e := adds(a, 3)
		first := a.request(e)
		if _, err := a.send(first); err != nil {
			t.Fatal(err)
		}
		b.sync(adds(b, 100))
		// The next push folds the step that was applied with a newer one.
		next := a.request(adds(a, 1))
		s := &next[0].Blocks[0].Stamps[0]
		s.Steps = append([]change.Step{{Reg: 3, LSN: s.LSN - 1, By: 3}}, s.Steps...)
		for range 2 {
			pull, err := a.send(next)
			if err != nil {
				t.Fatal(err)
			}
			a.finish(pull)
		}
		agree(t, a, b)
		is(b, 114)
	})
	t.Run("a row made by two devices has both values", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a, b := newClient(t, m.space, 1, countsTables(t)), newClient(t, m.space, 2, countsTables(t))
		a.push(put("counts", "k", counted(3)))
		b.push(put("counts", "k", counted(4)))
		agree(t, a, b)
		if n := a.rows["counts"]["k"]["n"]; n != int64(7) {
			t.Errorf("n is %v, want 7", n)
		}
	})
	t.Run("a row made anew starts at its value", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		a.sync(del("counts", "k"))
		b.sync()
		b.sync(put("counts", "k", counted(4)))
		agree(t, a, b)
		is(a, 4)
	})
	t.Run("what the delete had not seen stays in a row made after it", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		b.push(adds(b, 5))
		a.push(del("counts", "k").ranked(1, 0)) // takes 10 of the 15
		a.sync(put("counts", "k", counted(2)))
		agree(t, a, b)
		is(a, 7)
	})
	t.Run("a delete that falls takes nothing", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		a.push(del("counts", "k"))
		b.push(adds(b, 5).ranked(1, 0))
		agree(t, a, b)
		is(a, 15)
		a.heard(change.DeleteLost)
	})
	t.Run("a delete that does not say what it took takes all", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		a.sync(del("counts", "k").byValue())
		b.sync()
		b.sync(put("counts", "k", counted(4)))
		agree(t, a, b)
		is(a, 4)
	})
	t.Run("a delete that claims to have taken what can't be stops nobody", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		parts := a.request(del("counts", "k"))
		parts[0].Blocks[0].Stamps[0].Steps[0].By = 1<<63 - 1
		pull, err := a.send(parts)
		if err != nil {
			t.Fatal(err)
		}
		a.finish(pull)
		b.sync()
		b.sync(put("counts", "k", counted(4)))
		agree(t, a, b)
		is(a, 4)
		b.heard()
	})
	t.Run("by its value a counter is a column like others", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		a.sync(put("counts", "k", values{"n": int64(40)}).byValue())
		b.push(adds(b, 2)) // has not seen the 40: its step counts all the same
		agree(t, a, b)
		is(a, 42)
		b.push(adds(b, 1).ranked(1, 0))
		a.push(put("counts", "k", values{"n": int64(7)}).byValue()) // concurrent, and lighter
		agree(t, a, b)
		is(a, 43)
		a.heard(change.UpdateLost)
	})
	t.Run("steps that a copy may have sent count where they make the row, else are logged", func(t *testing.T) {
		m, a, b := countsPair(t, c)
		x := a.copyOf()
		x.id = change.DeviceID{77}
		x.names = nil
		x.doubt = x.lsn + 1
		x.sync(adds(x, 5))
		x.sync(adds(x, 1)) // written since
		agree(t, a, b, x)
		is(x, 11)
		l := x.heard(change.StepInDoubt)[0]
		if l.Rule != change.ByCopy || len(l.Columns) != 1 || l.Columns[0] != "n" || l.Lost[0] != int64(5) || l.Kept[0] != int64(10) {
			t.Errorf("conflict %+v", l)
		}
		y := newClient(t, m.space, 78, countsTables(t))
		y.sync()
		y.doubt = y.lsn + 1
		y.sync(put("counts", "new", counted(9)))
		if n := y.rows["counts"]["new"]["n"]; n != int64(9) {
			t.Errorf("a row made by a copy has n = %v, want 9", n)
		}
	})
	t.Run("a sum that does not fit is rejected, and told", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		a.sync(adds(a, change.MaxCounter-10))
		b.push(adds(b, 1))
		agree(t, a, b)
		is(b, change.MaxCounter)
		contains(t, b.heard(change.Rejected)[0].Reason, "counter overflow", "column n")
	})
	t.Run("what is no counter is refused", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		for _, v := range []change.Value{"7", 7.5, int64(change.MaxCounter + 1)} {
			a.sync(put("counts", "k", values{"n": v}).byValue())
			contains(t, a.heard(change.Rejected)[0].Reason, "a counter is")
		}
		agree(t, a, b)
		is(a, 10)
		for _, bad := range []change.Step{{Reg: 0, LSN: 1}, {Reg: 3, LSN: 99}, {Reg: 63, LSN: 1}} {
			parts := a.request(put("counts", "k", values{"title": "t", "n": int64(10)}))
			parts[0].Blocks[0].Stamps[0].Steps = []change.Step{bad}
			_, err := a.send(parts)
			errorAs[*store.RequestError](t, err)
		}
	})
	t.Run("rows made anew after one delete, in every order", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		for i, order := range permutations(3) {
			a := newClient(t, m.space, byte(10*i+1), countsTables(t))
			a.sync(put("counts", "k", counted(10)))
			a.sync(del("counts", "k"))
			for _, d := range order {
				x := newClient(t, m.space, byte(10*i+d+2), countsTables(t))
				x.seen, x.epochs = a.seen, a.epochs
				x.push(put("counts", "k", counted(int64(d+1))))
			}
			a.sync()
			is(a, 6)
			a.sync(del("counts", "k"))
		}
	})
}
