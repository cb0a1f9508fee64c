package sim

import "testing"

// A device deletes a row, and the master goes back to a time before. It hears of the delete
// by the device's push, and whoever pulls that has seen what the delete had: a row that is
// made anew on another device stands on it.
func TestLife_DeletePushedBack(t *testing.T) {
	r, err := run(1, Options{Life: true, steady: true}, func(w *world) {
		w.setUp()
		w.calm = true
		a, b, key := w.devices[0], w.devices[1], w.shape.keys[0]
		a.transact(func(x *txn) { x.insert(key) })
		a.sync()
		b.sync()
		w.life.backup = w.master.backup()
		a.transact(func(x *txn) { x.update(key) })
		a.sync()
		a.transact(func(x *txn) { x.remove(key) })
		a.sync()
		w.restoreMaster()
		a.sync()
		b.sync()
		b.transact(func(x *txn) { x.insert(key) })
		w.heal()
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Work["rows pushed back"]; n != 1 {
		t.Errorf("%d rows pushed back, want the delete", n)
	}
}
