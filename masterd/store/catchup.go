package store

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A catchUp brings a space's file up to a state of the database, in one transaction of the
// file.
type catchUp struct {
	*vsql.Conn
	origin *origin
	q      pgx.Tx // sees the state
	to     *spot
	from   place
	head   change.Seq // of the file before
	whole  bool       // the file is filled anew
	schema *schema
	made   []int64 // tables whose rows are all to be loaded
	sites  []int64 // devices that changed
}

// catchUp does nothing where the file holds that state. The caller has the turn.
func (o *origin) catchUp(ctx context.Context, q pgx.Tx, c *vsql.Conn, to *spot) error {
	if o.at == to.place {
		return nil
	}
	u := catchUp{Conn: c, origin: o, q: q, to: to, from: o.at}
	older, err := u.older(ctx)
	if err != nil {
		return err
	}
	u.whole = !older
	if u.whole && u.from != (place{}) {
		o.file.log.Warn("the cache is not an older state of the database, or too old: it is filled anew",
			"path", o.file.path, "change", u.from.change, "database", to.change)
	}
	// The rows were checked when they were written; a CHECK that asks for the time would say
	// another thing now.
	if err := c.Script("PRAGMA ignore_check_constraints = 1"); err != nil {
		return err
	}
	err = c.Tx(func() error { return u.run(ctx) })
	if err := errors.Join(err, c.Script("PRAGMA ignore_check_constraints = 0")); err != nil {
		return fmt.Errorf("catch up with the database: %w", err)
	}
	if err := o.file.follow(&u); err != nil {
		return err
	}
	o.setPlace(to.place)
	if u.whole && u.from != (place{}) { // what this opening gave may be gone
		return o.file.beginEpoch()
	}
	return nil
}

// older reports whether the file holds an older state of the database's space.
func (u *catchUp) older(ctx context.Context) (bool, error) {
	if u.from.change < u.to.pruned || u.from.change >= u.to.change {
		return false, nil
	}
	var stamp []byte
	err := u.q.QueryRow(ctx, `SELECT stamp FROM velosync_change WHERE space = $1 AND change = $2`, u.origin.name, u.from.change).Scan(&stamp)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return string(stamp) == string(u.from.stamp[:]), err
}

func (u *catchUp) run(ctx context.Context) error {
	var head int64
	if _, err := u.Row(`SELECT head FROM _velosync_space`, nil, &head); err != nil {
		return err
	}
	u.head = change.Seq(head)
	since := u.from.change
	if u.whole {
		u.head, since = 0, -1
		if err := u.wipe(); err != nil {
			return err
		}
	}
	if u.to.change == 0 {
		if err := u.origin.file.seed(u.Conn); err != nil {
			return err
		}
	}
	if err := u.items(ctx, since); err != nil {
		return err
	}
	if err := u.readSchema(); err != nil {
		return err
	}
	if err := u.rows(ctx); err != nil {
		return err
	}
	if _, err := u.Exec(`DELETE FROM _velosync_row WHERE deleted = 1 AND feed <= ?`, int64(u.to.forgotten)); err != nil {
		return err
	}
	if _, err := u.Exec(`DELETE FROM temp._velosync_changed`); err != nil {
		return err
	}
	return putPlace(u.Conn, u.to.place)
}

// wipe empties the file but for our tables.
func (u *catchUp) wipe() error {
	var names []string
	err := u.Query(`SELECT name FROM _velosync_table`, nil, func(row []driver.Value) error {
		names = append(names, row[0].(string))
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := u.Script("DROP TABLE IF EXISTS main." + vsql.Quote(name)); err != nil {
			return err
		}
	}
	for _, k := range u.origin.kinds {
		if _, err := u.Exec("DELETE FROM main." + k.name); err != nil {
			return err
		}
	}
	_, err = u.Exec(`DELETE FROM _velosync_row`)
	return err
}

// items brings the small tables and the SQL of users' tables up to date. An item that
// replaces one with which it shares a unique value meets an older state of that: both
// changed, so the other is an item that is yet to come.
func (u *catchUp) items(ctx context.Context, since int64) error {
	before, err := tableSQLs(u.Conn)
	if err != nil {
		return err
	}
	after := make(map[int64]string)
	rows, err := u.q.Query(ctx, `SELECT kind, gone, vals FROM velosync_item WHERE space = $1 AND change > $2`, u.origin.name, since)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var gone bool
		var vals []byte
		if err := rows.Scan(&name, &gone, &vals); err != nil {
			return err
		}
		if name == ddlKind {
			values, err := readItem(vals, 2)
			if err != nil {
				return err
			}
			after[values[0].(int64)] = values[1].(string)
			continue
		}
		k, err := u.origin.kind(name)
		if err != nil {
			return err
		}
		n, q := len(k.columns), k.put
		if gone {
			n, q = len(k.key), k.remove
		}
		values, err := readItem(vals, n)
		if err != nil {
			return err
		}
		if _, err := u.Exec(q, values...); err != nil {
			return fmt.Errorf("put a row of %s: %w", name, err)
		}
		if name == "_velosync_device" && !gone {
			u.sites = append(u.sites, values[0].(int64))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return u.tables(before, after)
}

// A tableSQL is the statements that make a user's table, and its name.
type tableSQL struct {
	name string
	sql  string // JSON array of statements, the table's first
}

// tableSQLs reads the SQL of the users' tables, by id.
func tableSQLs(c *vsql.Conn) (map[int64]tableSQL, error) {
	texts := make(map[int64]tableSQL)
	err := c.Query(`SELECT t.id, t.name, (SELECT json_group_array(s.sql ORDER BY s.type = 'index', s.name)
		  FROM main.sqlite_schema s WHERE lower(s.tbl_name) = lower(t.name) AND s.sql IS NOT NULL)
		FROM _velosync_table t`, nil, func(row []driver.Value) error {
		texts[row[0].(int64)] = tableSQL{row[1].(string), row[2].(string)}
		return nil
	})
	return texts, err
}

// tables makes the tables anew whose SQL is another one now.
func (u *catchUp) tables(before map[int64]tableSQL, after map[int64]string) error {
	for id, text := range after {
		if before[id].sql == text {
			continue
		}
		u.made = append(u.made, id)
		if before[id].name == "" {
			continue
		}
		if err := u.Script("DROP TABLE main." + vsql.Quote(before[id].name)); err != nil {
			return err
		}
		if _, err := u.Exec(`DELETE FROM _velosync_row WHERE tbl = ?`, id); err != nil {
			return err
		}
	}
	slices.Sort(u.made)
	for _, id := range u.made {
		var statements []string
		if err := json.Unmarshal([]byte(after[id]), &statements); err != nil {
			return errItem
		}
		for _, text := range statements { // they stood in the schema of another masterd's file
			if err := u.Script(text); err != nil {
				return fmt.Errorf("make table %d: %w", id, err)
			}
		}
	}
	return nil
}

// readSchema reads the tables as they are now, unless they are the ones that are known.
func (u *catchUp) readSchema() error {
	var version int64
	if _, err := u.Row(`SELECT version FROM _velosync_space`, nil, &version); err != nil {
		return err
	}
	if known := u.origin.file.state.schema; !u.whole && known != nil && known.version == version {
		u.schema = known
		return nil
	}
	var err error
	u.schema, err = readSchema(u.Conn)
	return err
}

// rows loads the rows that changed, and those of tables that were made. What the file holds
// of them goes first, so that no row meets an older one's unique value.
func (u *catchUp) rows(ctx context.Context) error {
	if u.head > 0 {
		if err := u.clear(ctx); err != nil {
			return err
		}
	}
	const rows = `SELECT tbl, coalesce(pk, key), seq, deleted, dots, vals FROM velosync_row WHERE space = $1`
	if err := u.load(ctx, rows+` AND seq > $2 ORDER BY seq`, u.origin.name, u.head); err != nil {
		return err
	}
	for _, id := range u.made {
		if u.head == 0 {
			break
		}
		if err := u.load(ctx, rows+` AND tbl = $2 AND seq <= $3 ORDER BY seq`, u.origin.name, id, u.head); err != nil {
			return err
		}
	}
	return nil
}

// clear takes out what the file holds of the rows that changed.
func (u *catchUp) clear(ctx context.Context) error {
	rows, err := u.q.Query(ctx, `SELECT tbl, coalesce(pk, key) FROM velosync_row WHERE space = $1 AND seq > $2`, u.origin.name, u.head)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var tbl int64
		var name []byte
		if err := rows.Scan(&tbl, &name); err != nil {
			return err
		}
		t, pk, err := u.row(tbl, name)
		if err != nil {
			return err
		}
		feed, live := int64(0), false
		err = u.Query(`SELECT feed, pk, deleted FROM _velosync_row WHERE tbl = ? AND pk = ?`, []driver.Value{tbl, pk}, func(row []driver.Value) error {
			if idOf(tbl, row[1]) == idOf(tbl, pk) { // 1.0 is not 1
				feed, live = row[0].(int64), row[2].(int64) == 0
			}
			return nil
		})
		if err != nil {
			return err
		}
		if live {
			key, err := change.SplitKey(pk, len(t.def.Key))
			if err != nil {
				return err
			}
			if _, err := u.Exec(t.remove, key...); err != nil {
				return err
			}
		}
		if feed > 0 {
			if _, err := u.Exec(`DELETE FROM _velosync_row WHERE feed = ?`, feed); err != nil {
				return err
			}
		}
	}
	return rows.Err()
}

// row finds a row's table, and reads its name.
func (u *catchUp) row(tbl int64, name []byte) (*table, change.Value, error) {
	t := u.schema.byID[tbl]
	if t == nil {
		return nil, nil, fmt.Errorf("a row is of table %d, which is not there: the database is damaged", tbl)
	}
	pk, err := readItem(name, 1)
	if err != nil {
		return nil, nil, err
	}
	return t, pk[0], nil
}

// load puts rows into the file.
func (u *catchUp) load(ctx context.Context, query string, args ...any) error {
	rows, err := u.q.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var tbl, seq int64
		var deleted bool
		var name, dots, vals []byte
		if err := rows.Scan(&tbl, &name, &seq, &deleted, &dots, &vals); err != nil {
			return err
		}
		t, pk, err := u.row(tbl, name)
		if err != nil {
			return err
		}
		var trash change.Value
		gone := int64(0)
		if deleted {
			trash, gone = vals, 1
		} else {
			values, err := t.oldValues(vals)
			if err != nil {
				return err
			}
			if _, err := u.Exec(t.insert, values...); err != nil {
				return fmt.Errorf("put row %d of the feed into %q: %w", seq, t.def.Name, err)
			}
		}
		if _, err := u.Exec(insertRow, seq, tbl, pk, gone, dots, trash); err != nil {
			return err
		}
	}
	return rows.Err()
}

// follow takes over what the file holds after a catchUp.
func (s *space) follow(u *catchUp) error {
	var st state
	var list []device
	err := u.ReadTx(func() (err error) {
		if err := st.read(u.Conn); err != nil {
			return err
		}
		if u.whole {
			list, err = readDevices(u.Conn)
			return err
		}
		slices.Sort(u.sites)
		for _, site := range u.sites {
			d, err := readDevice(u.Conn, site)
			if err != nil {
				return err
			}
			list = append(list, d)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.state
	st.schema, st.clean = u.schema, false
	st.opening, st.began, st.collected = old.opening, old.began, old.collected
	if !st.began {
		st.opening.First = st.head + 1
	}
	known, sites := s.devices, s.sites[:len(s.sites):len(s.sites)] // others hold the list
	if u.whole {
		s.devices, sites = make(map[change.DeviceID]*device, len(list)), nil
	}
	for i := range list {
		d := &list[i]
		d.served = max(d.served, u.to.presumed)
		if k := known[d.id]; k != nil {
			d.served, d.horizon, d.pulling = max(d.served, k.served), k.horizon, k.pulling
		}
		if s.devices[d.id] = d; d.site == int64(len(sites))+1 {
			sites = append(sites, d.id)
		}
	}
	s.state, s.sites = st, sites
	if st.head != old.head {
		close(s.moved)
		s.moved = make(chan struct{})
	}
	return nil
}
