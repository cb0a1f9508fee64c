package sqlfuncs

import (
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// knows reports whether a connection has the functions.
func knows(t *testing.T, conn *sqlite3.SQLiteConn) bool {
	t.Helper()
	_, err := conn.Exec(`SELECT vec_length('[1]')`, nil)
	if err != nil && !strings.Contains(err.Error(), "no such function") {
		t.Error(err)
	}
	return err == nil
}

func openPlain(t *testing.T) *sqlite3.SQLiteConn {
	t.Helper()
	conn, err := (&sqlite3.SQLiteDriver{}).Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*sqlite3.SQLiteConn)
}

func TestOpen_OnlyOurConnections(t *testing.T) {
	ours, err := Open(":memory:", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if !knows(t, ours) {
		t.Error("our connection lacks the functions")
	}
	if knows(t, openPlain(t)) {
		t.Error("a plain connection has the functions")
	}
	db, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`SELECT vec_length('[1]')`); err == nil {
		t.Error("a plain database/sql connection has the functions")
	}
}

func TestOpen_HookOpensOthers(t *testing.T) {
	var inner *sqlite3.SQLiteConn
	ours, err := Open(":memory:", func(conn *sqlite3.SQLiteConn) error {
		if !knows(t, conn) {
			t.Error("the hook's connection lacks the functions")
		}
		if knows(t, openPlain(t)) {
			t.Error("a plain connection opened in the hook has the functions")
		}
		var err error
		inner, err = Open(":memory:", nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer inner.Close()
	if !knows(t, inner) {
		t.Error("our connection opened in the hook lacks the functions")
	}
}

// After a failed or panicking Open the thread must have forgotten its mark.
func TestOpen_Fails(t *testing.T) {
	if conn, err := Open("/no/such/folder/x.db", nil); err == nil {
		conn.Close()
		t.Fatal("opened a file in a folder that does not exist")
	}
	if conn, err := Open("x.db?_journal_mode=nonsense", nil); err == nil {
		conn.Close()
		t.Fatal("took a wrong journal mode")
	}
	if knows(t, openPlain(t)) {
		t.Error("a plain connection has the functions after Open failed")
	}
	want := errors.New("no")
	if _, err := Open(":memory:", func(*sqlite3.SQLiteConn) error { return want }); !errors.Is(err, want) {
		t.Errorf("got error %v, want the hook's", err)
	}
	if knows(t, openPlain(t)) {
		t.Error("a plain connection has the functions after a hook failed")
	}
}

func TestOpen_Concurrent(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				conn, err := Open(":memory:", nil)
				if err != nil {
					t.Error(err)
					return
				}
				if !knows(t, conn) {
					t.Error("our connection lacks the functions")
				}
				conn.Close()
			}
		})
		wg.Go(func() {
			for range 20 {
				conn, err := (&sqlite3.SQLiteDriver{}).Open(":memory:")
				if err != nil {
					t.Error(err)
					return
				}
				if knows(t, conn.(*sqlite3.SQLiteConn)) {
					t.Error("a plain connection has the functions")
				}
				conn.Close()
			}
		})
	}
	wg.Wait()
}
