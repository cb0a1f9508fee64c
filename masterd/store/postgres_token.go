package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// AddToken implements Engine.
func (e *Postgres) AddToken(ctx context.Context, hash [32]byte, t Token) (err error) {
	defer unavailable(ctx, &err)
	if err := checkToken(t); err != nil {
		return err
	}
	if err := e.open(); err != nil {
		return err
	}
	_, err = e.pool.Exec(ctx, `INSERT INTO velosync_token (hash, space, device, created) VALUES ($1, $2, $3, $4)`,
		hash[:], t.Space, t.Device, t.Created.UnixMilli())
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "23505" { // unique_violation
		return ErrTokenExists
	}
	if err != nil {
		return fmt.Errorf("store: add token: %w", err)
	}
	return nil
}

// FindToken implements Engine.
func (e *Postgres) FindToken(ctx context.Context, hash [32]byte) (Token, error) {
	tokens, err := e.selectTokens(ctx, `WHERE hash = $1`, hash[:])
	if err != nil {
		return Token{}, err
	}
	if len(tokens) == 0 {
		return Token{}, ErrNoToken
	}
	return tokens[0], nil
}

// Tokens implements Engine.
func (e *Postgres) Tokens(ctx context.Context) ([]Token, error) {
	return e.selectTokens(ctx, `ORDER BY space COLLATE "C", device COLLATE "C"`)
}

func (e *Postgres) selectTokens(ctx context.Context, which string, args ...any) (_ []Token, err error) {
	defer unavailable(ctx, &err)
	if err := e.open(); err != nil {
		return nil, err
	}
	rows, err := e.pool.Query(ctx, `SELECT space, device, created FROM velosync_token `+which, args...)
	if err != nil {
		return nil, fmt.Errorf("store: read tokens: %w", err)
	}
	tokens, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Token, err error) {
		var created int64
		err = row.Scan(&t.Space, &t.Device, &created)
		t.Created = time.UnixMilli(created)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("store: read tokens: %w", err)
	}
	return tokens, nil
}

// RevokeToken implements Engine.
func (e *Postgres) RevokeToken(ctx context.Context, space, device string) (err error) {
	defer unavailable(ctx, &err)
	if err := e.open(); err != nil {
		return err
	}
	done, err := e.pool.Exec(ctx, `DELETE FROM velosync_token WHERE space = $1 AND device = $2`, space, device)
	switch {
	case err != nil:
		return fmt.Errorf("store: revoke token: %w", err)
	case done.RowsAffected() == 0:
		return ErrNoToken
	}
	return nil
}
