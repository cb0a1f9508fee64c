package driver_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jmoiron/sqlx"
	sqlite3 "github.com/mattn/go-sqlite3"
	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/sqlfuncs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("velosync", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func exec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func value(t testing.TB, db *sql.DB, query string, args ...any) string {
	t.Helper()
	var v string
	if err := db.QueryRow(query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func tempFile(t testing.TB) string { return filepath.Join(t.TempDir(), "app.db") }

func TestOpen_Defaults(t *testing.T) {
	file := tempFile(t)
	want := map[string]string{
		"journal_mode": "wal", "busy_timeout": "5000", "foreign_keys": "1", "cache_size": "-65536",
		"mmap_size": "1073741824", "synchronous": "1", "trusted_schema": "1", "recursive_triggers": "0",
	}
	for _, dsn := range []string{file, "file:" + file, "file:" + file + "?mode=rwc"} {
		db := open(t, dsn)
		for name, want := range want {
			if got := value(t, db, "PRAGMA "+name); got != want {
				t.Errorf("%s: %s = %s, want %s", dsn, name, got, want)
			}
		}
	}
}

func TestOpen_DefaultsGiveWay(t *testing.T) {
	db := open(t, tempFile(t)+"?_journal_mode=DELETE&_timeout=70&_fk=off&_cache_size=100&_velosync_mmap_bytes=0&_sync=FULL")
	for name, want := range map[string]string{
		"journal_mode": "delete", "busy_timeout": "70", "foreign_keys": "0", "cache_size": "100", "mmap_size": "0", "synchronous": "2",
	} {
		if got := value(t, db, "PRAGMA "+name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
}

// BEGIN takes the write lock, so that a second writer waits at its BEGIN.
func TestOpen_TxLock(t *testing.T) {
	file := tempFile(t)
	db := open(t, file+"?_timeout=1")
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Begin(); err == nil {
		t.Error("two transactions hold the write lock")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	deferred := open(t, file+"?_timeout=1&_txlock=deferred")
	for range 2 {
		tx, err := deferred.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
	}
}

func TestOpen_Memory(t *testing.T) {
	db := open(t, ":memory:")
	db.SetMaxOpenConns(1)
	exec(t, db, `CREATE TABLE t(x)`)
	if got := value(t, db, `PRAGMA journal_mode`); got != "memory" {
		t.Errorf("journal_mode = %s, want memory", got)
	}
	shared := open(t, "file::memory:?cache=shared")
	exec(t, shared, `CREATE TABLE t(x)`)
	exec(t, shared, `INSERT INTO t VALUES (1)`)
}

func TestOpen_ReadOnly(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		file := tempFile(t)
		db := open(t, file+"?_journal_mode="+mode)
		exec(t, db, `CREATE TABLE t(x)`)
		exec(t, db, `INSERT INTO t VALUES (7)`)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		for _, dsn := range []string{"file:" + file + "?mode=ro", "file:" + file + "?immutable=1", file + "?_query_only=1"} {
			t.Run(mode+"/"+filepath.Base(dsn), func(t *testing.T) {
				db := open(t, dsn)
				if got := value(t, db, `SELECT x FROM t`); got != "7" {
					t.Errorf("x = %s, want 7", got)
				}
				if got := value(t, db, `SELECT vec_length('[1,2]')`); got != "2" {
					t.Errorf("vec_length = %s, want 2", got)
				}
				tx, err := db.Begin()
				if err != nil {
					t.Fatal("begin:", err)
				}
				if err := tx.Commit(); err != nil {
					t.Error(err)
				}
				if _, err := db.Exec(`INSERT INTO t VALUES (8)`); err == nil {
					t.Error("wrote to a read-only database")
				}
				// An immutable file has no other users and so no WAL, whatever its header says.
				if got := value(t, db, `PRAGMA journal_mode`); !strings.EqualFold(got, mode) && !strings.Contains(dsn, "immutable") {
					t.Errorf("journal_mode = %s, want %s", got, mode)
				}
			})
		}
	}
}

// Many connections to a new file at once: each wants to turn WAL on.
func TestOpen_NewFileConcurrently(t *testing.T) {
	for range 10 {
		file := tempFile(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				db, err := sql.Open("velosync", file)
				if err != nil {
					t.Error(err)
					return
				}
				defer db.Close()
				if _, err := db.Exec(`CREATE TABLE IF NOT EXISTS t(x)`); err != nil {
					t.Error("create:", err)
				} else if _, err := db.Exec(`INSERT INTO t VALUES (?)`, i); err != nil {
					t.Error("insert:", err)
				}
			})
		}
		wg.Wait()
		if got := value(t, open(t, file), `SELECT count(*) FROM t`); got != "8" {
			t.Errorf("%s rows, want 8", got)
		}
	}
}

func TestOpen_BadDSN(t *testing.T) {
	_, err := sql.Open("velosync", "app.db?_velosync_mastr=http://x")
	var dsnErr *driver.DSNError
	if !errors.As(err, &dsnErr) || dsnErr.Nearest != "_velosync_master" {
		t.Errorf("sql.Open gave %v", err)
	}
	db := open(t, "/no/such/folder/app.db")
	if err := db.Ping(); err == nil {
		t.Error("opened a file in a folder that does not exist")
	}
	if _, err := (driver.Driver{}).Open("app.db?_velosync_master=http://x"); err == nil {
		t.Error("Driver.Open started a replicator that nobody can stop")
	}
}

func TestDriver_Open(t *testing.T) {
	conn, err := driver.Driver{}.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, ok := conn.(*sqlite3.SQLiteConn); !ok {
		t.Errorf("got a %T, want a *sqlite3.SQLiteConn", conn)
	}
}

func TestConn_Raw(t *testing.T) {
	db := open(t, tempFile(t))
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Raw(func(raw any) error {
		c, ok := raw.(*sqlite3.SQLiteConn)
		if !ok {
			return fmt.Errorf("got a %T, want a *sqlite3.SQLiteConn", raw)
		}
		return c.RegisterFunc("twice", func(x int64) int64 { return 2 * x }, true)
	})
	if err != nil {
		t.Fatal(err)
	}
	var got int
	if err := conn.QueryRowContext(t.Context(), `SELECT twice(21)`).Scan(&got); err != nil || got != 42 {
		t.Errorf("got %d, %v; want 42", got, err)
	}
	var sqliteErr sqlite3.Error
	if _, err := conn.ExecContext(t.Context(), `nonsense`); !errors.As(err, &sqliteErr) || sqliteErr.Code != sqlite3.ErrError {
		t.Errorf("error %v does not unwrap to sqlite3.Error", err)
	}
}

func TestConn_Backup(t *testing.T) {
	from, to := open(t, tempFile(t)), open(t, tempFile(t))
	exec(t, from, `CREATE TABLE docs(e)`)
	exec(t, from, `INSERT INTO docs VALUES (?)`, sqlfuncs.Vector{1, 2})
	raw := func(db *sql.DB, use func(*sqlite3.SQLiteConn) error) {
		t.Helper()
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.Raw(func(c any) error { return use(c.(*sqlite3.SQLiteConn)) }); err != nil {
			t.Fatal(err)
		}
	}
	raw(from, func(src *sqlite3.SQLiteConn) error {
		raw(to, func(dst *sqlite3.SQLiteConn) error {
			b, err := dst.Backup("main", src, "main")
			if err != nil {
				return err
			}
			if done, err := b.Step(-1); err != nil || !done {
				return fmt.Errorf("step: done %t, %w", done, err)
			}
			return b.Finish()
		})
		return nil
	})
	if got := value(t, to, `SELECT vec_to_json(e) FROM docs`); got != "[1,2]" {
		t.Errorf("the copy holds %s, want [1,2]", got)
	}
}

func TestConn_Cancel(t *testing.T) {
	db := open(t, tempFile(t))
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	rows, err := db.QueryContext(ctx, `WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i+1 FROM n)
		SELECT i FROM n WHERE i = 1 OR cosine_similarity('[1,2]', '[2,1]') < 0`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() { // the first row comes at once, the second never
		t.Fatal(rows.Err())
	}
	time.AfterFunc(time.Millisecond, cancel)
	if rows.Next() {
		t.Error("got a second row")
	}
	if err := rows.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	rows.Close()
	if got := value(t, db, `SELECT 1`); got != "1" {
		t.Errorf("after a cancelled query, SELECT 1 gave %s", got)
	}
}

func TestVector_RoundTrip(t *testing.T) {
	db := open(t, tempFile(t))
	exec(t, db, `CREATE TABLE docs(id INTEGER PRIMARY KEY, e BLOB)`)
	exec(t, db, `INSERT INTO docs VALUES (1, ?), (2, ?), (3, ?)`, sqlfuncs.Vector{1, 0.5}, sqlfuncs.Vector64{1, 0.5}, "[1, 0.5]")
	exec(t, db, `INSERT INTO docs VALUES (4, ?)`, sqlfuncs.Vector(nil))
	for id := 1; id <= 3; id++ {
		var v sqlfuncs.Vector
		if err := db.QueryRow(`SELECT e FROM docs WHERE id = ?`, id).Scan(&v); err != nil {
			t.Fatal(err)
		}
		if len(v) != 2 || v[0] != 1 || v[1] != 0.5 {
			t.Errorf("row %d holds %v, want [1 0.5]", id, v)
		}
	}
	if got := value(t, db, `SELECT e IS NULL FROM docs WHERE id = 4`); got != "1" {
		t.Error("a nil Vector is not NULL")
	}
}

func TestGORM(t *testing.T) {
	type Doc struct {
		ID        uint
		Title     string
		Embedding sqlfuncs.Vector `gorm:"type:blob"`
	}
	db, err := gorm.Open(sqlite.Dialector{DriverName: "velosync", DSN: tempFile(t)}, &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := db.AutoMigrate(&Doc{}); err != nil {
		t.Fatal(err)
	}
	docs := []Doc{{Title: "east", Embedding: sqlfuncs.Vector{1, 0}}, {Title: "north", Embedding: sqlfuncs.Vector{0, 1}}}
	if err := db.Create(&docs).Error; err != nil {
		t.Fatal(err)
	}
	var got Doc
	nearest := clause.OrderBy{Expression: gorm.Expr("cosine_similarity(embedding, ?) DESC", sqlfuncs.Vector{0.1, 2})}
	if err := db.Clauses(nearest).Take(&got).Error; err != nil {
		t.Fatal(err)
	}
	if got.Title != "north" || len(got.Embedding) != 2 {
		t.Errorf("got %+v, want north", got)
	}
	if err := db.Transaction(func(tx *gorm.DB) error {
		return tx.Model(&Doc{}).Where("title = ?", "east").Update("embedding", sqlfuncs.Vector{3, 0}).Error
	}); err != nil {
		t.Fatal(err)
	}
}

func TestSQLX(t *testing.T) {
	sqlx.BindDriver("velosync", sqlx.QUESTION)
	db, err := sqlx.Open("velosync", tempFile(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	type doc struct {
		ID int
		E  sqlfuncs.Vector
	}
	db.MustExec(`CREATE TABLE docs(id INTEGER PRIMARY KEY, e BLOB)`)
	if _, err := db.NamedExec(`INSERT INTO docs(id, e) VALUES (:id, :e)`, []doc{{1, sqlfuncs.Vector{1, 0}}, {2, sqlfuncs.Vector{0, 1}}}); err != nil {
		t.Fatal(err)
	}
	query, args, err := sqlx.In(`SELECT * FROM docs WHERE id IN (?) ORDER BY vec_distance_L2(e, ?)`, []int{1, 2}, "[0,1]")
	if err != nil {
		t.Fatal(err)
	}
	var docs []doc
	if err := db.Select(&docs, db.Rebind(query), args...); err != nil {
		t.Fatal(err)
	}
	if len(docs) != 2 || docs[0].ID != 2 {
		t.Errorf("got %v, want 2 before 1", docs)
	}
}

func TestGoose(t *testing.T) {
	db := open(t, tempFile(t))
	files := fstest.MapFS{
		"0001_docs.sql": {Data: []byte("-- +goose Up\nCREATE TABLE docs(e BLOB CHECK (vec_length(e) = 2));\n-- +goose Down\nDROP TABLE docs;\n")},
		"0002_row.sql":  {Data: []byte("-- +goose Up\nINSERT INTO docs VALUES (vec_f32('[1,2]'));\n-- +goose Down\nDELETE FROM docs;\n")},
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := value(t, db, `SELECT vec_to_json(e) FROM docs`); got != "[1,2]" {
		t.Errorf("got %s, want [1,2]", got)
	}
	if _, err := p.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}
