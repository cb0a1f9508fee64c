package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
)

// tokenCmd is masterd token.
type tokenCmd struct {
	New    tokenNewCmd    `cmd:"" help:"Make a token and print it, alone, on standard output. It can't be shown again."`
	List   tokenListCmd   `cmd:"" help:"List who has a token."`
	Revoke tokenRevokeCmd `cmd:"" help:"Take a token away, at once."`
}

type holderFlags struct {
	Space  string `required:"" placeholder:"NAME" help:"The space that the token is for: 1 to 64 of a-z, 0-9, _ and -."`
	Device string `required:"" placeholder:"NAME" help:"Whose token it is, for people, such as phone."`
}

func (f holderFlags) check() error {
	if !store.ValidSpace(f.Space) {
		return usage("--space %q: a space's name is 1 to 64 of a-z, 0-9, _ and -", f.Space)
	}
	if f.Device == "" || len(f.Device) > 128 || !utf8.ValidString(f.Device) || strings.ContainsFunc(f.Device, unicode.IsControl) {
		return usage("--device %.200q: a device's name is 1 to 128 bytes of UTF-8 without control characters", f.Device)
	}
	return nil
}

type tokenNewCmd struct {
	holderFlags
	storeFlags
}

// Run makes a token.
func (c *tokenNewCmd) Run(ctx context.Context, std streams) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	engine, _, err := c.makeStore(ctx, store.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	token, hash, err := server.NewToken(rand.Reader)
	if err != nil {
		return err
	}
	err = engine.AddToken(ctx, hash, store.Token{Space: c.Space, Device: c.Device, Created: time.Now()})
	if errors.Is(err, store.ErrTokenExists) {
		return fmt.Errorf("%q has a token for space %q already: choose another --device, or take the old one away with "+
			"masterd token revoke --space %s --device %q", c.Device, c.Space, c.Space, c.Device)
	}
	if err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	if _, err := fmt.Fprintln(std.out, token); err != nil {
		return errors.Join(fmt.Errorf("print the token: %w", err), engine.RevokeToken(ctx, c.Space, c.Device))
	}
	fmt.Fprintf(std.err, "This token admits %q to space %q. Keep it safe: it is stored as a hash and can't be shown again.\n", c.Device, c.Space)
	return nil
}

type tokenListCmd struct {
	storeFlags
	JSON bool `help:"Print JSON, one object a line."`
}

// Run lists tokens.
func (c *tokenListCmd) Run(ctx context.Context, std streams) (err error) {
	engine, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	tokens, err := engine.Tokens(ctx)
	if err != nil {
		return fmt.Errorf("list tokens: %w", err)
	}
	if c.JSON {
		to := json.NewEncoder(std.out)
		for _, t := range tokens {
			if err := to.Encode(map[string]string{"space": t.Space, "device": t.Device, "created": t.Created.UTC().Format(time.RFC3339)}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(tokens) == 0 {
		fmt.Fprintln(std.err, "No tokens. masterd token new makes one.")
		return nil
	}
	table := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "SPACE\tDEVICE\tCREATED")
	for _, t := range tokens {
		fmt.Fprintf(table, "%s\t%s\t%s\n", t.Space, t.Device, t.Created.UTC().Format(time.RFC3339))
	}
	return table.Flush()
}

type tokenRevokeCmd struct {
	holderFlags
	storeFlags
}

// Run takes a token away.
func (c *tokenRevokeCmd) Run(ctx context.Context, std streams) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	engine, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	err = engine.RevokeToken(ctx, c.Space, c.Device)
	if errors.Is(err, store.ErrNoToken) {
		return fmt.Errorf("%q has no token for space %q: masterd token list shows who has", c.Device, c.Space)
	}
	if err != nil {
		return fmt.Errorf("revoke the token: %w", err)
	}
	fmt.Fprintf(std.err, "Revoked: %q is refused from its next request on.\n", c.Device)
	return nil
}
