package sqlfuncs

import (
	"bufio"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeUntilKilled changes and searches a database for as long as it lives: what TestKNN_Crash and
// TestKNN_Processes run in processes of their own.
func writeUntilKilled(path string, seed uint64, changes int) error {
	db := sql.OpenDB(connector{"file:" + path + "?_journal_mode=WAL&_busy_timeout=20000&_synchronous=NORMAL&_txlock=immediate"})
	defer db.Close()
	r := rand.New(rand.NewPCG(seed, 3))
	c := newCloud(seed, 16)
	fmt.Println("ready")
	for i := 0; changes == 0 || i < changes; i++ {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		for range 1 + r.IntN(5) {
			id := 1 + r.IntN(4000)
			switch r.IntN(4) {
			case 0:
				_, err = tx.Exec(`DELETE FROM notes WHERE id = ?`, id)
			default:
				_, err = tx.Exec(`INSERT OR REPLACE INTO notes VALUES (?, 'en', ?)`, id, blob(c.draw()))
			}
			if err != nil {
				return err
			}
		}
		if r.IntN(10) == 0 {
			if _, err := tx.Exec(`INSERT INTO notes_knn(notes_knn, k) VALUES ('fold', 100)`); err != nil {
				return err
			}
		}
		if r.IntN(10) == 0 {
			err = tx.Rollback()
		} else {
			err = tx.Commit()
		}
		if err != nil {
			return err
		}
		rows, err := db.Query(`SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 5`, blob(c.draw()))
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return nil
}

const childEnv = "VELOSYNC_KNN_CHILD"

// TestKNN_Child is not a test: it is the process that the tests below start.
func TestKNN_Child(t *testing.T) {
	job := os.Getenv(childEnv)
	if job == "" {
		t.Skip("only as a child of other tests")
	}
	var seed uint64
	var changes int
	path, numbers, _ := strings.Cut(job, "|")
	if _, err := fmt.Sscan(numbers, &seed, &changes); err != nil {
		t.Fatal(err)
	}
	if err := writeUntilKilled(path, seed, changes); err != nil {
		t.Fatal(err)
	}
}

func startChild(t *testing.T, path string, seed uint64, changes int) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKNN_Child$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d %d", childEnv, path, seed, changes))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			break
		}
		said.WriteString(lines.Text())
	}
	go func() { // to its end, which Wait needs
		buffer := make([]byte, 4096)
		for {
			n, err := out.Read(buffer)
			said.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	return cmd, said
}

// TestKNN_Crash kills a writer at random moments: the file must then be whole, and the index right.
func TestKNN_Crash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crash.db")
	db, c := notesDB(t, "file:"+path+"?_journal_mode=WAL&_busy_timeout=20000", 2000, 16, ", lists_from=1000")
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 4))
	for i := range rounds {
		cmd, _ := startChild(t, path, seed+uint64(i), 0)
		time.Sleep(time.Duration(20+r.IntN(150)) * time.Millisecond) // any moment will do: the longer it lives the more it writes
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		checkIndex(t, db, "notes_knn")
		if n := count(t, db, `SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'`); n != 0 {
			t.Fatal("SQLite finds the file damaged")
		}
		q := blob(c.draw())
		want := search(t, db, `SELECT id, vec_distance_cosine(embedding, ?) d FROM notes ORDER BY d LIMIT 10`, q)
		got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 AND recall = 0.999`, q)
		if len(got) != 10 || overlap(got, want) < 0.8 {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

// TestKNN_Processes lets two processes write, fold and search one file at once.
func TestKNN_Processes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shared.db")
	db, c := notesDB(t, "file:"+path+"?_journal_mode=WAL&_busy_timeout=20000", 2000, 16, ", lists_from=1000")
	a, saidA := startChild(t, path, 1, 200)
	b, saidB := startChild(t, path, 2, 200)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Wait(); err != nil {
			t.Errorf("%v: %s", err, saidA)
		}
		if err := b.Wait(); err != nil {
			t.Errorf("%v: %s", err, saidB)
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10`, blob(c.draw()))
		if len(got) != 10 {
			t.Errorf("%d results", len(got))
		}
	}
	checkIndex(t, db, "notes_knn")
	q := blob(c.draw())
	want := search(t, db, `SELECT id, vec_distance_cosine(embedding, ?) d FROM notes ORDER BY d LIMIT 10`, q)
	if got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 AND recall = 1`, q); overlap(got, want) != 1 {
		t.Errorf("got %v, want %v", got, want)
	}
}
