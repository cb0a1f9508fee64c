package capture

import (
	"errors"
	"testing"

	"github.com/velosync/velosync/capture/change"
)

// compare lets a file compare itself with a master that has some rows, whose columns are
// all 1.
func (f *file) compare(t *testing.T, common change.Seq, tables change.Schema, rows ...change.Value) {
	t.Helper()
	c, err := f.Compare(common)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	theirs := change.Block{Keys: rows, Columns: make([][]change.Value, 4)}
	var prints change.Fingerprinter
	for range rows {
		for r := range 3 {
			theirs.Columns[r] = append(theirs.Columns[r], prints.Of([]change.Value{int64(1)}))
		}
		theirs.Columns[3] = append(theirs.Columns[3], int64(1))
	}
	if err := c.Add(&change.Pull{To: common, Done: true, Blocks: []change.Block{theirs}, Tables: tables, Epochs: []change.Epoch{{ID: change.Name{byte(common)}, First: common + 1}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Finish(); err != nil {
		t.Fatal(err)
	}
}

// TestComparison_rank: what is pushed back gives way to every live edit, and among what
// several devices push back the one that had seen more of the lost history stays. What only
// a second restore lost, before the next pull, is from the same history as the rest.
func TestComparison_rank(t *testing.T) {
	f := newFile(t, `CREATE TABLE kv(k TEXT PRIMARY KEY NOT NULL, a, b, u); SELECT velosync_track('kv', '{"groups":[]}'); INSERT INTO kv VALUES ('x', 1, 1, 1), ('y', 1, 1, 1)`)
	tables, err := f.Tables()
	if err != nil {
		t.Fatal(err)
	}
	f.sync(t, &change.Pull{To: 9})
	for i, common := range []change.Seq{6, 4} {
		lost := i + 1
		f.compare(t, common, tables, []change.Value{"y"}[:2-lost]...)
		parts := pushOf(t, f.begin(t), Limits{})
		if len(parts) != 1 || len(parts[0].Blocks) != 1 || len(parts[0].Blocks[0].Stamps) != lost {
			t.Fatalf("after a restore to %d the push is %+v, want %d rows", common, parts, lost)
		}
		for _, s := range parts[0].Blocks[0].Stamps {
			if s.Weight != change.PushedBack || s.Time != 9 || s.Seen != common || s.Existence != common {
				t.Errorf("after a restore to %d a row has weight %g, time %d, seen %d, existence seen %d, want %g, 9, %[1]d, %[1]d", common, s.Weight, s.Time, s.Seen, s.Existence, change.PushedBack)
			}
		}
	}
}

// TestComparison_twoOpenings: pages of two openings of the master say nothing together.
func TestComparison_twoOpenings(t *testing.T) {
	f := newFile(t, kv)
	tables, err := f.Tables()
	if err != nil {
		t.Fatal(err)
	}
	f.sync(t, &change.Pull{To: 9})
	first := []change.Epoch{{ID: change.Name{1}, First: 1}}
	for name, second := range map[string]*change.Pull{
		"other epochs":     {To: 5, Done: true, Epochs: append(first, change.Epoch{ID: change.Name{2}, First: 4})},
		"a head that fell": {To: 2, Done: true, Epochs: first},
	} {
		c, err := f.Compare(6)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Add(&change.Pull{To: 3, Tables: tables, Epochs: first}); err != nil {
			t.Fatal(err)
		}
		if err := c.Add(second); !errors.Is(err, ErrMoved) {
			t.Errorf("%s: %v, want ErrMoved", name, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestComparison_columnMeanwhile: a column that comes before the end of a comparison joins
// the group of all others only when the triggers are made again. Until then no register of
// the table is its own.
func TestComparison_columnMeanwhile(t *testing.T) {
	f := newFile(t, `CREATE TABLE docs(k TEXT PRIMARY KEY NOT NULL, a, b); SELECT velosync_track('docs', '{"groups":[["a","b"]]}'); INSERT INTO docs VALUES ('x', 1, 1)`)
	tables, err := f.Tables()
	if err != nil {
		t.Fatal(err)
	}
	f.sync(t, &change.Pull{To: 9})
	c, err := f.Compare(6)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Add(&change.Pull{To: 6, Done: true, Tables: tables, Epochs: []change.Epoch{{ID: change.Name{6}, First: 7}}}); err != nil {
		t.Fatal(err)
	}
	run(t, f.Device, `ALTER TABLE docs ADD COLUMN c DEFAULT 1`)
	if _, err := c.Finish(); !errors.Is(err, ErrMoved) {
		t.Fatalf("%v, want ErrMoved", err)
	}
	if mended, err := f.Mend(); err != nil || len(mended) != 1 {
		t.Fatal(mended, err)
	}
	if n, err := c.Finish(); err != nil || n != 1 {
		t.Fatalf("%d rows pushed back, %v; want 1", n, err)
	}
	if parts := pushOf(t, f.begin(t), Limits{}); len(parts) != 1 || len(parts[0].Blocks) != 1 || parts[0].Blocks[0].Regs != 1 {
		t.Errorf("the push is %+v, want the row's one register", parts)
	}
}

// TestComparison_columnDropped: what is pushed back of a column that is dropped before it
// was sent has nothing to say any more.
func TestComparison_columnDropped(t *testing.T) {
	f := newFile(t, `CREATE TABLE kv(k TEXT PRIMARY KEY NOT NULL, a, b, u); SELECT velosync_track('kv', '{"groups":[]}'); INSERT INTO kv VALUES ('x', 2, 1, 1), ('y', 2, 2, 1)`)
	tables, err := f.Tables()
	if err != nil {
		t.Fatal(err)
	}
	f.sync(t, &change.Pull{To: 9})
	f.compare(t, 6, tables, "x", "y")
	run(t, f.Device, `SELECT velosync_alter('kv', 'DROP COLUMN a')`)
	parts := pushOf(t, f.begin(t), Limits{})
	if len(parts) != 1 || len(parts[0].Blocks) != 1 || parts[0].Blocks[0].Regs != 1 || len(parts[0].Blocks[0].Keys) != 1 || parts[0].Blocks[0].Keys[0] != "y" {
		t.Errorf("the push is %+v, want column b of y", parts)
	}
}
