package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	vsql "github.com/velosync/velosync/sql"
)

// withTokens lends the connection of masterd.db.
func (e *SQLite) withTokens(f func(*vsql.Conn) error) error {
	e.tokenMu.Lock()
	defer e.tokenMu.Unlock()
	if e.tokens == nil {
		return ErrClosed
	}
	return f(e.tokens)
}

func checkToken(t Token) error {
	if !ValidSpace(t.Space) {
		return &RequestError{Reason: fmt.Sprintf("space %.100q: want 1 to 64 of a-z, 0-9, _ and -", t.Space)}
	}
	if t.Device == "" {
		return &RequestError{Reason: "a token without a device name"}
	}
	return nil
}

// AddToken implements Engine.
func (e *SQLite) AddToken(_ context.Context, hash [32]byte, t Token) error {
	if err := checkToken(t); err != nil {
		return err
	}
	return e.withTokens(func(c *vsql.Conn) error {
		_, err := c.Exec(`INSERT INTO _velosync_token (hash, space, device, created) VALUES (?, ?, ?, ?)`,
			hash[:], t.Space, t.Device, t.Created.UnixMilli())
		var constraint sqlite3.Error
		if errors.As(err, &constraint) && constraint.Code == sqlite3.ErrConstraint {
			return ErrTokenExists
		}
		if err != nil {
			return fmt.Errorf("store: add token: %w", err)
		}
		return nil
	})
}

// FindToken implements Engine.
func (e *SQLite) FindToken(_ context.Context, hash [32]byte) (Token, error) {
	tokens, err := e.selectTokens(`WHERE hash = ?`, hash[:])
	if err != nil {
		return Token{}, err
	}
	if len(tokens) == 0 {
		return Token{}, ErrNoToken
	}
	return tokens[0], nil
}

// Tokens implements Engine.
func (e *SQLite) Tokens(context.Context) ([]Token, error) {
	return e.selectTokens(`ORDER BY space, device`)
}

func (e *SQLite) selectTokens(which string, args ...driver.Value) (tokens []Token, err error) {
	err = e.withTokens(func(c *vsql.Conn) error {
		return c.Query(`SELECT space, device, created FROM _velosync_token `+which, args, func(row []driver.Value) error {
			tokens = append(tokens, Token{Space: row[0].(string), Device: row[1].(string), Created: time.UnixMilli(row[2].(int64))})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("store: read tokens: %w", err)
	}
	return tokens, nil
}

// RevokeToken implements Engine.
func (e *SQLite) RevokeToken(_ context.Context, space, device string) error {
	return e.withTokens(func(c *vsql.Conn) error {
		n, err := c.Exec(`DELETE FROM _velosync_token WHERE space = ? AND device = ?`, space, device)
		switch {
		case err != nil:
			return fmt.Errorf("store: revoke token: %w", err)
		case n == 0:
			return ErrNoToken
		}
		return nil
	})
}
