package capture

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
)

// TestRetryParked_tries: how often parked rows are tried grows with their number, not its
// square, though they come in one at a time and each needs the one before.
func TestRetryParked_tries(t *testing.T) {
	for _, c := range []struct {
		name    string
		chain   func(t *testing.T, n int, order []int) *file // parks n rows and then makes room for one of them
		allowed int                                          // tries a row
	}{
		{"unique values passed on", uniqueChain, 5},
		{"nothing comes in", func(t *testing.T, n int, order []int) *file {
			f := uniqueChain(t, n, order)
			run(t, f.Device, fmt.Sprintf(`INSERT INTO kv(k, u) VALUES ('other', %d)`, n))
			return f
		}, 2},
		{"children of children", childChain, 5},
		{"deletes of parents of untracked children, and another row comes in", pinned, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range []int{10, 40, 160} {
				order := rand.New(rand.NewPCG(1, uint64(n))).Perm(n)
				f := c.chain(t, n, order)
				a := f.sync(t, &change.Pull{To: 9})
				if in := a.Parked == 0; in == (c.allowed == 2) {
					t.Errorf("%d rows: %d are parked still", n, a.Parked)
				}
				if a.Tried > c.allowed*n {
					t.Errorf("%d rows were tried %d times, want at most %d times each", n, a.Tried, c.allowed)
				}
			}
		})
	}
}

// uniqueChain parks n rows each of which wants what another has, the last what a row of this
// file has, and takes that away.
func uniqueChain(t *testing.T, n int, order []int) *file {
	f := newFile(t, kv)
	b := change.Block{Regs: 4, Columns: make([][]change.Value, 1)}
	for i := range n {
		run(t, f.Device, fmt.Sprintf(`INSERT INTO kv(k, u) VALUES ('k%d', %d)`, order[i], i))
		b.Keys, b.Columns[0] = append(b.Keys, fmt.Sprintf("k%d", order[i])), append(b.Columns[0], fmt.Sprint(i+1))
	}
	run(t, f.Device, fmt.Sprintf(`INSERT INTO kv(k, u) VALUES ('mine', %d)`, n))
	f.sync(t, &change.Pull{To: 1})
	var log bytes.Buffer
	f.o.Log = slog.New(slog.NewTextHandler(&log, nil))
	if a := f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{b}}); a.Parked != n {
		t.Fatalf("%d rows parked, want %d", a.Parked, n)
	}
	if times := strings.Count(log.String(), "row parked"); times > n {
		t.Errorf("%d rows were parked %d times: the pull was applied again and again", n, times)
	}
	want := ""
	for i := range n {
		want += fmt.Sprintf("string:k%d string:%d\n", order[i], i)
	}
	if got := dump(t, f.Device, `SELECT k, u FROM kv ORDER BY CAST(u AS INT)`) + "\n"; got != want+fmt.Sprintf("string:mine string:%d\n", n) {
		t.Fatalf("rows that are parked are not what they were:\n%s", got)
	}
	run(t, f.Device, `DELETE FROM kv WHERE k = 'mine'`)
	return f
}

// childChain parks a row that wants what a row of this file has, one that wants what the first
// has, and children of that, each of the one before.
func childChain(t *testing.T, n int, order []int) *file {
	f := newFile(t, `CREATE TABLE kv(k TEXT PRIMARY KEY NOT NULL, a UNIQUE, b TEXT REFERENCES kv(u), u TEXT UNIQUE); SELECT velosync_track('kv', '{"groups":[]}');
		INSERT INTO kv(k, a) VALUES ('z', 0), ('mine', 'taken')`)
	f.sync(t, &change.Pull{To: 1})
	b := change.Block{Regs: 7, Columns: make([][]change.Value, 3)}
	for i := range n {
		row := []change.Value{int64(i), fmt.Sprint(i - 1), fmt.Sprint(i)}
		if i == 0 {
			row[1] = nil
		}
		b.Keys = append(b.Keys, fmt.Sprintf("k%d", order[i]))
		for c, v := range row {
			b.Columns[c] = append(b.Columns[c], v)
		}
	}
	if a := f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{block("z", 1, "taken"), b}}); a.Parked != n+1 {
		t.Fatalf("%d rows parked, want %d", a.Parked, n+1)
	}
	run(t, f.Device, `DELETE FROM kv WHERE k = 'mine'`)
	return f
}

// pinned parks the deletes of n rows that rows of a table without an index refer to, and
// makes room for another row.
func pinned(t *testing.T, n int, order []int) *file {
	f := newFile(t, kv+`CREATE TABLE pins(k TEXT REFERENCES kv)`)
	b := change.Block{Delete: true}
	for _, i := range order {
		key := fmt.Sprintf("k%d", i)
		run(t, f.Device, fmt.Sprintf(`INSERT INTO kv(k, u) VALUES ('%s', %d); INSERT INTO pins VALUES ('%[1]s')`, key, i))
		b.Keys = append(b.Keys, key)
	}
	run(t, f.Device, `INSERT INTO kv(k, u) VALUES ('mine', 'taken')`)
	f.sync(t, &change.Pull{To: 1})
	if a := f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{b, block("new", 7, nil, nil, "taken")}}); a.Parked != n+1 || a.Tried > n+4 {
		t.Fatalf("%d rows parked in %d tries, want %d in a few more than that", a.Parked, a.Tried, n+1)
	}
	run(t, f.Device, `DELETE FROM kv WHERE k = 'mine'`)
	return f
}

// TestRetryParked_again: a row waits for another by a trigger, of which nothing is known.
func TestRetryParked_again(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, u) VALUES ('c', 'one'), ('mine', 'two');
		CREATE TRIGGER strict BEFORE INSERT ON kv WHEN NEW.k = 'a' AND NOT EXISTS (SELECT 1 FROM kv WHERE k = 'b') BEGIN SELECT RAISE(ABORT, 'b first'); END`)
	f.sync(t, &change.Pull{To: 1})
	if a := f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{block("a", 7, nil, nil, nil), block("b", 7, nil, nil, "one"), block("c", 4, "two")}}); a.Parked != 3 {
		t.Fatalf("%d rows parked, want 3", a.Parked)
	}
	run(t, f.Device, `DELETE FROM kv WHERE k = 'mine'`)
	a := f.sync(t, &change.Pull{To: 3})
	if got, want := dump(t, f.Device, `SELECT group_concat(k || coalesce(u, ''), ' ' ORDER BY k) FROM kv`), "string:a bone ctwo"; got != want || a.Parked != 0 {
		t.Errorf("rows %s, want %s; %d parked, want none", got, want, a.Parked)
	}
}

// TestRetryParked_unblocked: a delete that was not tried alone is tried when what stood in its
// way went with a row that came in alone.
func TestRetryParked_unblocked(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, u) VALUES ('p', NULL), ('q', NULL), ('z', 'one'), ('mine', 'two');
		CREATE TABLE pins(k TEXT REFERENCES kv, of TEXT REFERENCES kv ON DELETE CASCADE); INSERT INTO pins VALUES ('p', 'q');
		CREATE TRIGGER strict BEFORE DELETE ON kv WHEN OLD.k = 'q' AND (SELECT u FROM kv WHERE k = 'z') = 'one' BEGIN SELECT RAISE(ABORT, 'z first'); END`)
	f.sync(t, &change.Pull{To: 1})
	if a := f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{{Delete: true, Keys: []change.Value{"p", "q"}}, block("z", 4, "two")}}); a.Parked != 3 {
		t.Fatalf("%d rows parked, want 3", a.Parked)
	}
	run(t, f.Device, `DELETE FROM kv WHERE k = 'mine'`)
	a := f.sync(t, &change.Pull{To: 3})
	if got, want := dump(t, f.Device, `SELECT group_concat(k || coalesce(u, '')) FROM kv`), "string:ztwo"; got != want || a.Parked != 0 {
		t.Errorf("rows %s, want %s; %d parked, want none", got, want, a.Parked)
	}
}
