package main

import (
	"cmp"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/driver"
)

// options of the data source name, the same for all. 64 MiB of page cache.
const options = "?_journal_mode=WAL&_synchronous=NORMAL&_cache_size=-65536"

// connect opens the file with the peer's library.
func (p sqlPeer) connect(file string) (*sql.DB, error) {
	name := driver.Name
	if p.library != "" {
		library, err := findLibrary(os.Getenv("VELOSYNC_BENCH_NPM"), p.library)
		if err != nil {
			return nil, err
		}
		name = p.label
		if !slices.Contains(sql.Drivers(), name) {
			sql.Register(name, &sqlite3.SQLiteDriver{Extensions: []string{library}})
		}
	}
	db, err := sql.Open(name, file+options)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.Exec(`PRAGMA mmap_size = 1073741824`)
	return db, err
}

func executeAll(db *sql.DB, statements []string, s *set, file string) error {
	for _, statement := range statements {
		if _, err := db.Exec(put(statement, s, file)); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// openSQLIndex returns what searches with a statement. peer is as searchName makes it.
func openSQLIndex(peer string, s *set, file, search string) (opened, error) {
	name, number, _ := strings.Cut(peer, "/")
	i, err := strconv.Atoi(number)
	if err != nil || i >= len(sqlPeers[name]) {
		return nil, fmt.Errorf("no peer is called %s", peer)
	}
	p := sqlPeers[name][i]
	db, err := p.connect(file) // it stays open until the process ends
	if err != nil {
		return nil, err
	}
	if err := executeAll(db, slices.Concat(p.open, p.load), s, file); err != nil {
		return nil, err
	}
	statement, err := db.Prepare(put(search, s, file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", search, err)
	}
	return func(q []float32) ([]int32, error) { return ids(statement, pack(q)) }, nil
}

func searchName(name string, i int) string { return fmt.Sprintf("%s/%d", name, i) }

func measureSQL(name string, s *set, work string) error {
	peers, ok := sqlPeers[name]
	if !ok {
		return fmt.Errorf("no peer is called %s", name)
	}
	for i, p := range peers {
		if err := p.measure(searchName(name, i), s, work, filepath.Join(work, fmt.Sprintf("%d.db", i))); err != nil {
			return err
		}
	}
	return nil
}

func (p sqlPeer) measure(name string, s *set, work, file string) error {
	common, rows, err := p.build(s, file)
	if err != nil {
		return err
	}
	before := databaseBytes(file)
	common.RowBytes = before / float64(rows)
	truth, err := s.truthOf(rows, work)
	if err != nil {
		return err
	}
	var records []record
	for _, mode := range p.modes {
		r := common
		r.Mode = mode.name
		if r.found, err = searchProcess(name, s, file, p.queries, truth, mode.search); err != nil {
			return err
		}
		records = append(records, r)
	}
	if p.filter != "" && rows == s.Rows {
		f, err := searchProcess(name, s, file, p.queries, "filter.i32", p.filter)
		if err != nil {
			return err
		}
		for i := range records {
			records[i].Filter, records[i].FilterRecall = f.P50, f.Recall
		}
	}
	insert, after, err := p.change(s, file)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Insert = insert; after > 0 {
			r.Shrink = after / before
		}
		if err := printRecord(r); err != nil {
			return err
		}
	}
	return nil
}

// versionNumber is a version number in what a peer says of itself.
var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+`)

// build makes the database and says how many rows it has.
func (p sqlPeer) build(s *set, file string) (r record, rows int, err error) {
	db, err := p.connect(file)
	if err != nil {
		return r, 0, err
	}
	defer func() { err = cmp.Or(err, db.Close()) }()
	r = record{Peer: p.label, InMemory: p.inMemory}
	if p.version != "" {
		var v string
		if err := db.QueryRow(p.version).Scan(&v); err != nil {
			return r, 0, err
		}
		r.Peer += " " + versionNumber.FindString(v)
	}
	start := time.Now()
	if err := executeAll(db, slices.Concat(p.create, p.open), s, file); err != nil {
		return r, 0, err
	}
	if rows, err = p.fill(db, s); err != nil {
		return r, 0, err
	}
	if err := executeAll(db, p.index, s, file); err != nil {
		return r, 0, err
	}
	if r.BuildSeconds = time.Since(start).Seconds(); rows < s.Rows {
		r.Rows = rows
	}
	r.BuildMB, _ = memory()
	return r, rows, executeAll(db, []string{`PRAGMA wal_checkpoint(TRUNCATE)`}, s, file)
}

// fill inserts the rows, as many as -build allows, in one transaction.
func (p sqlPeer) fill(db *sql.DB, s *set) (rows int, err error) {
	tx, err := db.Begin()
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	var statements []*sql.Stmt
	for _, text := range p.insert {
		statement, err := tx.Prepare(put(text, s, ""))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", text, err)
		}
		statements = append(statements, statement)
	}
	until := buildDeadline()
	err = s.eachRow(func(id int, v []float32) error {
		for i, statement := range statements {
			if _, err := statement.Exec(arguments(p.insert[i], id, v)...); err != nil {
				return err
			}
		}
		rows++
		return until.check()
	})
	if err != nil && !errors.Is(err, errStopped) {
		return 0, err
	}
	return rows, tx.Commit()
}

// arguments are as many of id, group and vector as the statement has places.
func arguments(statement string, id int, v []float32) []any {
	if !strings.Contains(statement, "?3") {
		return []any{id, id % groups}
	}
	return []any{id, id % groups, pack(v)}
}

func pack(v []float32) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err) // float32 can be written
	}
	return b
}

func ids(statement *sql.Stmt, query []byte) ([]int32, error) {
	rows, err := statement.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []int32
	for rows.Next() {
		var id int32
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		list = append(list, id)
	}
	return list, rows.Err()
}

// change returns what one more row takes in ms, each in a transaction of its own, and how many
// bytes are left when half of the rows are deleted and space was given back: 0 if that cannot be had.
func (p sqlPeer) change(s *set, file string) (insert, bytes float64, err error) {
	db, err := p.connect(file)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = cmp.Or(err, db.Close()) }()
	if err := executeAll(db, p.open, s, file); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	for i, v := range s.extra {
		tx, err := db.Begin()
		if err != nil {
			return 0, 0, err
		}
		for _, statement := range p.insert {
			if _, err := tx.Exec(put(statement, s, file), arguments(statement, s.Rows+i, v)...); err != nil {
				return 0, 0, err
			}
		}
		if err := tx.Commit(); err != nil {
			return 0, 0, err
		}
	}
	if p.fold != "" {
		if err := executeAll(db, []string{p.fold}, s, file); err != nil {
			return 0, 0, err
		}
	}
	insert = milliseconds(time.Since(start)) / float64(len(s.extra))
	if p.delete == nil {
		return insert, 0, nil
	}
	if err := executeAll(db, append(slices.Clone(p.delete), `PRAGMA wal_checkpoint(TRUNCATE)`), s, file); err != nil {
		return 0, 0, err
	}
	return insert, databaseBytes(file), nil
}

// databaseBytes is the size of a database with what is kept beside it.
func databaseBytes(file string) float64 {
	return fileBytes(file) + fileBytes(file+"-wal") + fileBytes(file+indexFile)
}

func fileBytes(file string) float64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0 // SQLite removes its log when the last connection closes
	}
	return float64(info.Size())
}
