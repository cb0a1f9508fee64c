package main

import (
	"context"
	"fmt"
	"os"

	"github.com/velosync/velosync/masterd/store"
)

// storeFlags say where the spaces and tokens are.
type storeFlags struct {
	Data     string `default:"velosync-data" env:"VELOSYNC_DATA" placeholder:"DIR" help:"Directory of the spaces, made if need be; with --database of their caches (${default})."`
	Database string `env:"VELOSYNC_DATABASE" placeholder:"URL" help:"Keep spaces and tokens in this PostgreSQL database, which several masterds may share: postgres://user@host/name. Give a password in PGPASSWORD, ~/.pgpass or the variable, where ps does not show it."`
}

// makeStore opens the store, and makes it when it is new. where says for people what it is.
func (f storeFlags) makeStore(ctx context.Context, o store.Options) (engine store.Engine, where string, err error) {
	if f.Database != "" {
		e, err := store.OpenPostgres(ctx, f.Database, f.Data, o)
		if err != nil {
			return nil, "", &codeError{exitData, fmt.Errorf("open the database: %w", err)}
		}
		return e, fmt.Sprintf("data in database %s, cached in %s", e, f.Data), nil
	}
	if err := os.MkdirAll(f.Data, 0o700); err != nil {
		return nil, "", &codeError{exitData, fmt.Errorf("data directory: %w: choose another --data, or make it writable", err)}
	}
	e, err := store.OpenSQLite(f.Data, o)
	if err != nil {
		return nil, "", &codeError{exitData, fmt.Errorf("open the store in %s: %w", f.Data, err)}
	}
	return e, "data in " + f.Data, nil
}

// openStore opens a store that is there.
func (f storeFlags) openStore(ctx context.Context) (store.Engine, error) {
	if f.Database == "" {
		if _, err := os.Stat(f.Data); err != nil {
			return nil, &codeError{exitData, fmt.Errorf("data directory: %w: give the one that masterd serves from as --data", err)}
		}
	}
	engine, _, err := f.makeStore(ctx, store.Options{})
	return engine, err
}
