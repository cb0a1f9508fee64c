package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// An arrival is rows that one device commits while another searches.
type arrival struct {
	rows, commits int // rows in each commit
	gap           time.Duration
}

// A lookup is one search on the device where rows arrive.
type lookup struct {
	Phase   string  `json:"phase"`
	Seconds float64 `json:"seconds"` // since the first
	Took    float64 `json:"ms"`
	// Of about four lookups a second, what the same read transaction found in the file. Rows
	// that changed are read exactly until they are in the index's lists.
	Checked bool    `json:"checked"`
	Recall  float64 `json:"recall"`
	Changed int64   `json:"changed"`
}

// search measures searches on B before, while and after rows come from A through a master. Each
// device has a replicator that sql.Open started; B has an index, whose queries go on all the time.
func (b *bench) search(ctx context.Context) (err error) {
	p, docs, err := b.searchDocs()
	if err != nil {
		return err
	}
	m, err := startMaster(filepath.Join(b.dir, "master4"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	one, err := b.join(ctx, m, "inserting")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, one.remove()) }()
	for _, s := range []string{createDocs, trackDocs} {
		if _, err := one.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	base := docs[:len(docs)-b.size.arriving()]
	if err := one.insert(ctx, base, len(base)); err != nil {
		return err
	}
	two, err := b.join(ctx, m, "searching")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, two.remove()) }()
	if err := waitFor(ctx, two, `SELECT count(*) FROM pragma_table_list WHERE name = 'docs'`, time.Millisecond); err != nil {
		return fmt.Errorf("wait for the table on the other device: %w", err)
	}
	if err := waitFor(ctx, two, hasDoc, time.Millisecond, base[len(base)-1].id); err != nil {
		return fmt.Errorf("wait for the rows on the other device: %w", err)
	}
	if _, err := two.ExecContext(ctx, `CREATE VIRTUAL TABLE docs_knn USING velosync_knn(docs, embedding, metric=cosine)`); err != nil {
		return err
	}
	s, err := newSearcher(ctx, two, p.queries)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := b.arrivals(ctx, one, s, docs[len(base):]); err != nil {
		return err
	}
	b.addLookups(s.lookups, fmt.Sprintf("%s rows to begin with, %s", short(len(base)), p.what))
	return b.saveLookups(s.lookups)
}

const hasDoc = `SELECT count(*) FROM docs WHERE id = ?`

// searchDocs returns the rows, those that are there at first and those that arrive.
func (b *bench) searchDocs() (p pool, docs []doc, err error) {
	want := b.size.rows + b.size.arriving()
	if b.vectors != "" {
		p, err = readPool(b.vectors)
	} else {
		p, err = clusters(want)
	}
	if err != nil {
		return p, nil, err
	}
	if most := len(p.rows); want > most {
		want = most
	}
	if least := b.size.arriving() + 1; want < least {
		return p, nil, fmt.Errorf("%s has %d vectors, want at least %d", b.vectors, want, least)
	}
	g := newGenerator(8)
	if docs, err = g.docs(want); err != nil {
		return p, nil, err
	}
	for i := range docs {
		docs[i].embedding = p.rows[i]
	}
	return p, docs, nil
}

func (s sizes) arriving() (rows int) {
	for _, a := range s.arrivals {
		rows += a.rows * a.commits
	}
	return rows
}

// arrivals searches while nothing arrives, then during each arrival, until the last row is there,
// and afterwards.
func (b *bench) arrivals(ctx context.Context, one *database, s *searcher, docs []doc) error {
	if err := s.search(ctx, "before", s.forTime(b.size.calm)); err != nil {
		return err
	}
	for _, a := range b.size.arrivals {
		n := a.rows * a.commits
		written := make(chan error, 1)
		go func() { written <- a.write(ctx, one, docs[:n]) }()
		var writing error
		done := false
		phase := fmt.Sprintf("%d a commit, %s rows/s", a.rows, number(float64(a.rows)/a.gap.Seconds()))
		err := s.search(ctx, phase, func() (bool, error) {
			if !done {
				select {
				case writing = <-written:
					done = true
				default:
					return false, nil
				}
			}
			return s.has(ctx, docs[n-1].id)
		})
		if !done {
			writing = <-written
		}
		if err := errors.Join(err, writing); err != nil {
			return err
		}
		docs = docs[n:]
	}
	return s.search(ctx, "after", s.forTime(b.size.calm))
}

// write commits docs, each commit a gap after the one before if that left time.
func (a arrival) write(ctx context.Context, db *database, docs []doc) error {
	tick := time.NewTicker(a.gap)
	defer tick.Stop()
	for ; len(docs) > 0; docs = docs[a.rows:] {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := db.insert(ctx, docs[:a.rows], a.rows+1); err != nil {
			return err
		}
	}
	return nil
}

// A searcher asks one query after the other, on a connection of its own.
type searcher struct {
	conn    *sql.Conn
	nearest *sql.Stmt // by the index
	exact   *sql.Stmt
	queries [][]byte
	next    int // query
	began   time.Time
	checked time.Time
	lookups []lookup
}

func newSearcher(ctx context.Context, db *database, queries [][]byte) (*searcher, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	s := &searcher{conn: conn, queries: queries, began: time.Now()}
	for query, to := range map[string]**sql.Stmt{
		`SELECT id FROM docs_knn WHERE embedding MATCH ? AND k = 10`:                 &s.nearest,
		`SELECT id FROM docs ORDER BY cosine_similarity(embedding, ?) DESC LIMIT 10`: &s.exact,
	} {
		if *to, err = conn.PrepareContext(ctx, query); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *searcher) close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{s.nearest, s.exact} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// forTime ends a phase after d.
func (s *searcher) forTime(d time.Duration) func() (bool, error) {
	began := time.Now()
	return func() (bool, error) { return time.Since(began) >= d, nil }
}

func (s *searcher) has(ctx context.Context, id string) (bool, error) {
	var n int
	err := s.conn.QueryRowContext(ctx, hasDoc, id).Scan(&n)
	return n > 0, err
}

// checkEvery leaves most of the time to searches: a check reads all rows.
const checkEvery = 250 * time.Millisecond

// search looks up queries until done says so. It asks after each, which a phase of no time
// needs too.
func (s *searcher) search(ctx context.Context, phase string, done func() (bool, error)) error {
	s.checked = time.Time{}
	// A context that can end costs go-sqlite3 a goroutine a statement.
	calm := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		query := s.queries[s.next%len(s.queries)]
		s.next++
		began := time.Now()
		if _, err := ids(calm, s.nearest, query); err != nil {
			return err
		}
		l := lookup{Phase: phase, Seconds: began.Sub(s.began).Seconds(), Took: time.Since(began).Seconds() * 1e3}
		if time.Since(s.checked) >= checkEvery {
			if err := s.check(calm, query, &l); err != nil {
				return err
			}
			s.checked = time.Now()
		}
		s.lookups = append(s.lookups, l)
		if end, err := done(); end || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// check searches again, and exactly, in one read transaction.
func (s *searcher) check(ctx context.Context, query []byte, l *lookup) (err error) {
	if _, err := s.conn.ExecContext(ctx, `BEGIN`); err != nil {
		return err
	}
	defer func() {
		_, e := s.conn.ExecContext(ctx, `COMMIT`)
		err = errors.Join(err, e)
	}()
	if err := s.conn.QueryRowContext(ctx, `SELECT count(*) FROM docs_knn_dirty`).Scan(&l.Changed); err != nil {
		return err
	}
	found, err := ids(ctx, s.nearest, query)
	if err != nil {
		return err
	}
	want, err := ids(ctx, s.exact, query)
	if err != nil {
		return err
	}
	hits := 0
	for _, id := range found {
		if slices.Contains(want, id) {
			hits++
		}
	}
	l.Checked, l.Recall = true, float64(hits)/float64(len(want))
	return nil
}

func ids(ctx context.Context, search *sql.Stmt, query []byte) (list []string, err error) {
	rows, err := search.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		list = append(list, id)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(list) != 10 {
		return nil, fmt.Errorf("a search found %d rows, want 10", len(list))
	}
	return list, nil
}

// addLookups adds the figures of each phase.
func (b *bench) addLookups(all []lookup, what string) {
	var before float64
	for len(all) > 0 {
		n := slices.IndexFunc(all, func(l lookup) bool { return l.Phase != all[0].Phase })
		if n < 0 {
			n = len(all)
		}
		var took, recall []float64
		var most, last int64
		for _, l := range all[:n] {
			took = append(took, l.Took)
			if l.Checked {
				recall = append(recall, l.Recall)
				most, last = max(most, l.Changed), l.Changed
			}
		}
		if before == 0 {
			before = median(took)
		}
		work := "search while rows arrive by sync, " + all[0].Phase
		note := fmt.Sprintf("%d searches in %.1f s, %d beside an exact one; changed rows not in lists yet: %d at most, %d at the end; %s",
			n, all[n-1].Seconds-all[0].Seconds, len(recall), most, last, what)
		b.add(
			row{Work: work + ", p50", Figure: median(took), Unit: "ms", Ratio: median(took) / before, Floor: "p50 before", Note: note},
			row{Work: work + ", p95", Figure: quantile(took, 0.95), Unit: "ms", Ratio: quantile(took, 0.95) / before, Floor: "p50 before"},
			row{Work: work + ", recall@10", Figure: mean(recall), Unit: "of 1"},
		)
		all = all[n:]
	}
}

func mean(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// saveLookups writes a line of JSON for each search, where the user has named a file.
func (b *bench) saveLookups(all []lookup) (err error) {
	if b.lookups == "" {
		return nil
	}
	f, err := os.Create(b.lookups)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	to := json.NewEncoder(f)
	for _, l := range all {
		if err := to.Encode(l); err != nil {
			return err
		}
	}
	return nil
}
