package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A Stager is an engine that keeps the parts of long pushes until the last one has come: it
// may come to another process than the first. A device has the parts of one push.
type Stager interface {
	// Parts lists the parts that a device has sent, in order.
	Parts(ctx context.Context, by Sender) ([]Part, error)
	// PutPart keeps a part in the place of the one with its number, and of all later ones. It
	// returns *StagedError when that would be more than limits allow.
	PutPart(ctx context.Context, by Sender, part Part, body []byte, limits PartLimits) error
	// PartBody returns the bytes of a part. ErrNoPart: it is not there any more.
	PartBody(ctx context.Context, by Sender, number int) ([]byte, error)
	// DropParts forgets the parts of a push; of all a device's pushes where push is zero.
	DropParts(ctx context.Context, by Sender, push change.Name) error
	// ExpireParts forgets the parts of all pushes to which nothing came after then.
	ExpireParts(ctx context.Context, then time.Time) (parts int64, err error)
}

// A Sender names whose push it is.
type Sender struct {
	Space  string
	Owner  Owner
	Device change.DeviceID
}

// A Part is what is known of a part beside its bytes.
type Part struct {
	Push   change.Name
	Number int
	Seen   change.Seq
	Schema [32]byte // digest
	Rows   int
	Size   int64 // bytes
	Sum    [32]byte
	Came   time.Time
}

// PartLimits bound what is staged, in bytes, each part in whole blocks of 4 KiB.
type PartLimits struct {
	Owner int64 // of one owner; without owners, of one device
	Total int64
}

// A StagedError says that a part is more than the limits allow.
type StagedError struct {
	Owner, Total int64 // bytes staged already
}

func (e *StagedError) Error() string {
	return fmt.Sprintf("store: %d bytes of this device's token are staged, %d of all", e.Owner, e.Total)
}

// ErrNoPart reports a part that is gone.
var ErrNoPart = errors.New("store: no such part")

var _ Stager = (*Postgres)(nil)

// Parts implements Stager.
func (e *Postgres) Parts(ctx context.Context, by Sender) (_ []Part, err error) {
	defer unavailable(ctx, &err)
	rows, err := e.pool.Query(ctx, `SELECT push, part, seen, digest, rows, size, sum, at FROM velosync_part
		WHERE space = $1 AND owner = $2 AND device = $3 ORDER BY part`, by.Space, string(by.Owner), by.Device[:])
	if err != nil {
		return nil, fmt.Errorf("store: list parts: %w", err)
	}
	parts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Part, err error) {
		var push, digest, sum []byte
		var at int64
		err = row.Scan(&push, &p.Number, &p.Seen, &digest, &p.Rows, &p.Size, &sum, &at)
		copy(p.Push[:], push)
		copy(p.Schema[:], digest)
		copy(p.Sum[:], sum)
		p.Came = time.UnixMilli(at)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("store: list parts: %w", err)
	}
	return parts, nil
}

// PutPart implements Stager. Two that come at once may be more than the limits together.
func (e *Postgres) PutPart(ctx context.Context, by Sender, p Part, body []byte, limits PartLimits) (err error) {
	defer unavailable(ctx, &err)
	err = pgx.BeginFunc(ctx, e.pool, func(q pgx.Tx) error {
		_, err := q.Exec(ctx, `DELETE FROM velosync_part WHERE space = $1 AND owner = $2 AND device = $3 AND part >= $4`,
			by.Space, string(by.Owner), by.Device[:], p.Number)
		if err != nil {
			return err
		}
		var device []byte // whose parts are counted together
		if by.Owner == "" {
			device = by.Device[:]
		}
		var staged StagedError
		if err := q.QueryRow(ctx, vsql.Postgres("part_bytes.sql"), by.Space, string(by.Owner), device).Scan(&staged.Owner, &staged.Total); err != nil {
			return err
		}
		size := blocks(int64(len(body)))
		if staged.Owner+size > limits.Owner || staged.Total+size > limits.Total {
			return &staged
		}
		_, err = q.Exec(ctx, `INSERT INTO velosync_part (space, owner, device, part, push, seen, digest, rows, size, sum, at, body)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`, by.Space, string(by.Owner), by.Device[:], p.Number,
			p.Push[:], p.Seen, p.Schema[:], p.Rows, len(body), p.Sum[:], p.Came.UnixMilli(), body)
		return err
	})
	if err != nil {
		return fmt.Errorf("store: stage part %d: %w", p.Number, err)
	}
	return nil
}

// blocks is a size in whole blocks, so that many small parts do not slip under a limit.
func blocks(size int64) int64 { return (size + 4095) &^ 4095 }

// PartBody implements Stager.
func (e *Postgres) PartBody(ctx context.Context, by Sender, number int) (body []byte, err error) {
	defer unavailable(ctx, &err)
	err = e.pool.QueryRow(ctx, `SELECT body FROM velosync_part WHERE space = $1 AND owner = $2 AND device = $3 AND part = $4`,
		by.Space, string(by.Owner), by.Device[:], number).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoPart
	}
	if err != nil {
		return nil, fmt.Errorf("store: read part %d: %w", number, err)
	}
	return body, nil
}

// DropParts implements Stager.
func (e *Postgres) DropParts(ctx context.Context, by Sender, push change.Name) (err error) {
	defer unavailable(ctx, &err)
	var name []byte
	if push != (change.Name{}) {
		name = push[:]
	}
	_, err = e.pool.Exec(ctx, `DELETE FROM velosync_part WHERE space = $1 AND owner = $2 AND device = $3 AND ($4::bytea IS NULL OR push = $4)`,
		by.Space, string(by.Owner), by.Device[:], name)
	if err != nil {
		return fmt.Errorf("store: drop parts: %w", err)
	}
	return nil
}

// ExpireParts implements Stager.
func (e *Postgres) ExpireParts(ctx context.Context, then time.Time) (parts int64, err error) {
	defer unavailable(ctx, &err)
	done, err := e.pool.Exec(ctx, vsql.Postgres("expire_parts.sql"), then.UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("store: drop old parts: %w", err)
	}
	return done.RowsAffected(), nil
}
