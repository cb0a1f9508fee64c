package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
)

// ErrMoved reports that another replicator moved the file since the round began. Nothing
// was done; the next round begins from where the file is now.
var ErrMoved = errors.New("capture: the file moved since the round began")

// A Round is one push and the pull that answers it.
type Round struct {
	Name    change.Name
	Names   []change.Name // the last answered push, those without an answer, this one
	Device  change.DeviceID
	Seen    change.Seq
	Through change.LSN // the push covers the log up to here
	Epochs  []change.Epoch
	// Compared is the master's head as of the comparison that the push goes by; 0: none.
	Compared change.Seq
	Doubt    change.LSN         // steps up to here may be another copy's too
	Tables   change.Schema      // this device's
	Space    change.Schema      // the space's, as the device knows it; nil: not yet
	Pending  bool               // there is something to push
	Idle     bool               // there is nothing to tell: the round goes by the name of the last push
	Fresh    []change.ColumnRef // columns that the last complete round did not know
	Renames  []change.Rename    // tables and columns that it knew under another name

	// Counted while Parts runs:
	Rows      int // rows that the push has
	Mutations int // log rows that they were folded from
	Held      []HeldRow

	held   map[rowKey]bool
	lost   bool // the master was restored since the last complete round
	acked  change.LSN
	folded int64
	reader *Device // holds the read transaction that the push is read from; nil: released
}

// Begin starts a round. reader is the same file through another connection: it keeps one
// state of the file, in a read transaction, until the round is released, so that a push
// holds transactions whole and writers are not held up.
//
// Then comes the fence: the push's name is written into the file and synced to the disk,
// with all that the push can carry, before anything is sent. So a power cut can't roll the
// file back behind what the master has seen, and the master can tell a copy of the file
// from the file.
//
// A round that has nothing to tell since the last answered push needs no fence, unless named
// asks for one: it goes by that push's name, writes nothing before the answer, and the
// master has nothing to write down either. Only a pull of several pages has to be named,
// since each page counts only while its push is the last one under the device's id.
func (d *Device) Begin(reader *Device, name change.Name, named bool) (*Round, error) {
	if _, err := d.Mend(); err != nil {
		return nil, err
	}
	if d.failed {
		if err := d.renewLog(); err != nil {
			return nil, err
		}
	}
	r := &Round{Name: name, held: make(map[rowKey]bool), reader: reader}
	err := r.open()
	if r.Idle = r.Idle && !named; r.Idle {
		r.Name = r.Names[0]
	} else if err == nil {
		err = d.fence(r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin a round: %w", err), r.Release())
	}
	return r, nil
}

// open begins the read transaction, and reads in it where the device stands.
func (r *Round) open() error {
	d := r.reader
	if _, err := d.c.Exec("BEGIN"); err != nil {
		r.reader = nil
		return err
	}
	s, err := d.State()
	if err != nil {
		return err
	}
	r.Device, r.Seen, r.acked, r.folded = s.Device, s.Seen, s.Acked, s.Folded
	var last int64
	if _, err := d.c.Row(`SELECT coalesce(max(lsn), 0) FROM _velosync_wal`, nil, &last); err != nil {
		return err
	}
	r.Through = max(change.LSN(last), s.Acked)
	if r.Pending, err = d.Pending(); err != nil {
		return err
	}
	if r.Epochs, err = d.epochs(); err != nil {
		return err
	}
	var compared int64
	if _, err := d.c.Row(`SELECT compared, was > 0 FROM _velosync_sync`, nil, &compared, &r.lost); err != nil {
		return err
	}
	r.Compared = change.Seq(compared)
	var doubt int64
	if _, err := d.c.Row(`SELECT doubt FROM _velosync_state`, nil, &doubt); err != nil {
		return err
	}
	r.Doubt = change.LSN(doubt)
	if r.Tables, err = d.Tables(); err != nil {
		return err
	}
	if r.Fresh, err = d.fresh(s.Seen); err != nil {
		return err
	}
	if r.Renames, err = d.renames(); err != nil {
		return err
	}
	if r.Space, err = d.space(); err != nil {
		return err
	}
	names, err := d.names()
	if err != nil {
		return err
	}
	if !r.Pending && r.Seen > 0 && r.Through == r.acked && len(names) == 1 && len(r.Fresh) == 0 && len(r.Renames) == 0 {
		r.Idle, r.Names = true, names
	}
	return nil
}

// fresh returns the columns that the device's tables had not when its last round was
// complete. It returns ErrMoved where a table changed since its triggers were made: what
// was written to it meanwhile is to be logged first.
func (d *Device) fresh(seen change.Seq) (list []change.ColumnRef, err error) {
	for i, t := range d.tables {
		var made string
		var held []string
		var text change.Value
		if _, err := d.c.Row(`SELECT made, held FROM _velosync_table WHERE id = ?`, []change.Value{t.id}, &made, &text); err != nil {
			return nil, err
		}
		var old change.Table
		if err := json.Unmarshal([]byte(made), &old); err != nil {
			return nil, fmt.Errorf("table %q as its triggers were made for: %w", t.d.Name, err)
		}
		if !sameColumns(&old, &t.d.Table) {
			return nil, ErrMoved
		}
		if text == nil && seen == 0 { // tracked, and all that others have of it is still to come
			continue
		}
		if text, ok := text.(string); ok {
			if err := json.Unmarshal([]byte(text), &held); err != nil {
				return nil, fmt.Errorf("the columns that are held of %q: %w", t.d.Name, err)
			}
		}
		for c, col := range t.d.Columns {
			if !slices.Contains(held, col.Name) && !slices.Contains(t.d.Key, c) {
				list = append(list, change.ColumnRef{Table: i, Column: c})
			}
		}
	}
	return list, nil
}

// fence writes the push's name. What can be pushed is on the disk then; all else that a
// round writes may be lost in a power cut, and comes again.
func (d *Device) fence(r *Round) (err error) {
	if r.Pending {
		if err := d.c.Script("PRAGMA synchronous = FULL"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.c.Script("PRAGMA synchronous = NORMAL")) }()
	}
	return d.c.Tx(func() error {
		s, err := d.State()
		if err != nil {
			return err
		}
		if s.Device != r.Device || s.Seen != r.Seen || s.Folded != r.folded {
			return ErrMoved // or what the push holds was given newer LSNs since it was read
		}
		if _, err := d.c.Exec(`INSERT INTO _velosync_name(name, through) VALUES (?, ?)`, r.Name[:], int64(r.Through)); err != nil {
			return err
		}
		if _, err := d.c.Exec(`UPDATE _velosync_state SET sent = max(sent, ?)`, int64(r.Through)); err != nil {
			return err
		}
		r.Names, err = d.names()
		return err
	})
}

// Release ends the round's read transaction: the push is answered, or given up. It may be
// called twice.
func (r *Round) Release() error {
	if r.reader == nil {
		return nil
	}
	d := r.reader
	r.reader = nil
	_, err := d.c.Exec("ROLLBACK")
	return err
}

// Abandon takes the round's name back: the push did not reach the master, or the master
// said that it applied nothing.
func (d *Device) Abandon(r *Round) error {
	if r.Idle {
		return nil
	}
	if _, err := d.c.Exec(`DELETE FROM _velosync_name WHERE name = ?`, r.Name[:]); err != nil {
		return fmt.Errorf("abandon a round: %w", err)
	}
	return nil
}

func (d *Device) names() (names []change.Name, err error) {
	err = d.c.Query(`SELECT name FROM _velosync_name ORDER BY n`, nil, func(v []change.Value) error {
		b, _ := v[0].([]byte)
		if len(b) != len(change.Name{}) {
			return fmt.Errorf("a push name has %d bytes", len(b))
		}
		names = append(names, change.Name(b))
		return nil
	})
	return names, err
}

func (d *Device) epochs() (epochs []change.Epoch, err error) {
	err = d.c.Query(`SELECT epoch, first FROM _velosync_epoch ORDER BY first`, nil, func(v []change.Value) error {
		b, _ := v[0].([]byte)
		if len(b) != len(change.Name{}) {
			return fmt.Errorf("an epoch has %d bytes", len(b))
		}
		epochs = append(epochs, change.Epoch{ID: change.Name(b), First: change.Seq(v[1].(int64))})
		return nil
	})
	return epochs, err
}

func (d *Device) space() (change.Schema, error) {
	var text string
	if _, err := d.c.Row(`SELECT tables FROM _velosync_sync`, nil, &text); err != nil || text == "" {
		return nil, err
	}
	var s change.Schema
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("the space's tables as kept here: %w", err)
	}
	return s, nil
}

// stands says whether the file is where the round left it, else ErrMoved: a second
// replicator may have moved it since.
func (d *Device) stands(r *Round) error {
	s, err := d.State()
	if err != nil {
		return err
	}
	var name []byte
	if _, err := d.c.Row(`SELECT name FROM _velosync_name ORDER BY n DESC LIMIT 1`, nil, &name); err != nil {
		return err
	}
	if s.Device != r.Device || s.Seen != r.Seen || string(name) != string(r.Name[:]) {
		return ErrMoved
	}
	return nil
}

// Fork gives the file a new id: the master answered the round's push that it knows another
// branch of the file, a copy or the file that a backup was made of. What is pending stays,
// as edits of the new device. With ErrMoved nothing changed: a second replicator has pushed
// since, and its push is that other branch.
func (d *Device) Fork(r *Round) (change.DeviceID, error) {
	id, err := change.NewDeviceID(d.o.Random)
	if err != nil {
		return id, err
	}
	err = d.c.Tx(func() error {
		if err := d.stands(r); err != nil {
			return err
		}
		// What is pending, the other branch may have sent.
		if _, err := d.c.Exec(`UPDATE _velosync_state SET doubt = (SELECT coalesce(max(lsn), 0) FROM _velosync_wal)`); err != nil {
			return err
		}
		return d.rename(id)
	})
	if err != nil {
		return id, fmt.Errorf("take a new device id: %w", err)
	}
	return id, nil
}

// rename gives the file an id that has pushed nothing.
func (d *Device) rename(id change.DeviceID) error {
	if _, err := d.c.Exec(`UPDATE _velosync_state SET device = ?`, id[:]); err != nil {
		return err
	}
	_, err := d.c.Exec(`DELETE FROM _velosync_name`)
	return err
}

// Describe writes down what people want to know: the device's name, and which master and
// space it syncs with.
func (d *Device) Describe(name, master, space string) error {
	_, err := d.c.Exec(`UPDATE _velosync_sync SET name = coalesce(nullif(?1, ''), name), master = ?2, space = ?3
		WHERE name IS NOT coalesce(nullif(?1, ''), name) OR master IS NOT ?2 OR space IS NOT ?3`, name, master, space)
	return err
}

// renewLog brings the write-ahead log into the database file and begins it anew. After a
// sync that failed, Linux takes what it did not write for clean: earlier commits of the
// application may be missing in the log on the disk, no later fence would bring them, and a
// power cut would take the file back behind what was sent.
func (d *Device) renewLog() error {
	var busy, frames, moved int
	if _, err := d.c.Row(`PRAGMA wal_checkpoint(TRUNCATE)`, nil, &busy, &frames, &moved); err != nil {
		return fmt.Errorf("begin the log anew after a write that failed: %w", err)
	}
	if busy != 0 {
		return errors.New("begin the log anew after a write that failed: another connection holds it")
	}
	d.failed = false
	return nil
}

// Rounds returns how many rounds of the file were complete.
func (d *Device) Rounds() (n int64, err error) {
	_, err = d.c.Row(`SELECT rounds FROM _velosync_sync`, nil, &n)
	return n, err
}

// Failed writes down why a round did not complete, for velosync_status.
func (d *Device) Failed(why error) error {
	_, err := d.c.Exec(`UPDATE _velosync_sync SET last_error = ?1 WHERE last_error IS NOT ?1`, why.Error())
	d.failed = d.failed || isDiskError(why) || isDiskError(err)
	return err
}

func isDiskError(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && e.Code == sqlite3.ErrIoErr
}
