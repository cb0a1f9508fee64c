package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

// syncCmd is velosync sync.
type syncCmd struct {
	fileArg
	Master     string        `required:"" env:"VELOSYNC_MASTER" placeholder:"URL" help:"The master, such as https://sync.example.com."`
	Space      string        `default:"default" env:"VELOSYNC_SPACE" placeholder:"NAME" help:"The space to share (${default})."`
	Token      string        `env:"VELOSYNC_TOKEN" placeholder:"TOKEN" help:"What masterd token new printed. The environment keeps it out of the process list."`
	DeviceName string        `placeholder:"NAME" help:"What people see this device called; it is kept in FILE."`
	Once       bool          `xor:"how" help:"Sync once and end (the default)."`
	Watch      bool          `xor:"how" help:"Sync at each change, here and at the master, until SIGINT or SIGTERM."`
	Interval   time.Duration `default:"5s" placeholder:"TIME" help:"With --watch, the longest that a change waits (${default})."`
	Digest     string        `name:"digest-every" default:"32" placeholder:"N" help:"Compare a range of rows with the master after every N-th round, and while idle with --watch; 0 or off: never (${default})."`
	LogLevel   slog.Level    `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error (${default})."`
	jsonFlag
}

// Run syncs a file, and makes it when it is new.
func (c *syncCmd) Run(ctx context.Context, std streams) (err error) {
	cfg, err := c.check()
	if err != nil {
		return err
	}
	db, err := createDatabase(ctx, c.File)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	bars := &progress{std: std}
	var failed error // of printing
	r, err := replicator.New(fileDSN(c.File, "rwc"), replicator.Options{
		Master:      c.Master,
		Space:       c.Space,
		Token:       c.Token,
		Name:        c.DeviceName,
		Interval:    c.Interval,
		DigestEvery: cfg.DigestEvery,
		Log:         slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: c.LogLevel})),
		Progress:    bars.show,
		Ended: func(round replicator.Round, err error) {
			bars.finish()
			// Watching, a round that moved nothing is no news.
			if moved := round.PushedRows + round.PulledRows + round.LostRows; complete(err) && (!c.Watch || moved > 0) {
				failed = errors.Join(failed, c.report(std, round))
			}
		},
	})
	if err != nil {
		return c.explain(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if c.Watch {
		err = r.Run(ctx)
	} else {
		_, err = r.Sync(ctx)
	}
	return errors.Join(c.explain(err), failed)
}

// complete reports whether a round ended well, for all rows but those that can't be sent.
func complete(err error) bool {
	var held *replicator.HeldError
	return err == nil || errors.As(err, &held)
}

// check finds what is wrong with the flags by the rules of the data source name, and returns
// what they say.
func (c *syncCmd) check() (driver.Config, error) {
	keys := url.Values{"_velosync_master": {c.Master}, "_velosync_space": {c.Space}, "_velosync_interval": {c.Interval.String()},
		"_velosync_digest_every": {c.Digest}}
	for key, value := range map[string]string{"_velosync_token": c.Token, "_velosync_device_name": c.DeviceName} {
		if value != "" {
			keys.Set(key, value)
		}
	}
	connector, err := driver.NewConnector(fileDSN(c.File, "rwc") + "&" + keys.Encode())
	var wrong *driver.DSNError
	if errors.As(err, &wrong) && strings.HasPrefix(wrong.Key, "_velosync_") {
		flag := strings.ReplaceAll(strings.TrimPrefix(wrong.Key, "_velosync_"), "_", "-")
		return driver.Config{}, usage("--%s %s: it takes %s", flag, wrong.Value,
			strings.ReplaceAll(wrong.Accepts, "_velosync_token", "VELOSYNC_TOKEN"))
	}
	if err != nil {
		return driver.Config{}, usage("%w", err)
	}
	return connector.Config(), nil
}

// explain adds the exit code, and the next command to try.
func (c *syncCmd) explain(err error) error {
	var refused *wire.Problem
	var held *replicator.HeldError
	file := quoteArg(c.File)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, replicator.ErrOffline):
		return &codeError{exitOffline, fmt.Errorf("%w: is masterd running at %s? Changes stay in %s for the next velosync sync", err, c.Master, c.File)}
	case errors.As(err, &held):
		return fmt.Errorf("%w: make them smaller or delete them; velosync status %s --pending lists what waits", err, file)
	case errors.Is(err, replicator.ErrLease):
		return fileError("%w: let that process sync, and wait for it with velosync wait %s", err, file)
	case errors.As(err, &refused):
		switch refused.Code {
		case wire.CodeUnauthorized:
			return fmt.Errorf("%w: get a token from masterd token new --space %s --device NAME, and set VELOSYNC_TOKEN to it", err, c.Space)
		case wire.CodeForbidden, wire.CodeNoSpace:
			return fmt.Errorf("%w: a token is for one space and one device: is it the one for %s?", err, c.Space)
		case wire.CodeSchemaMismatch:
			return fmt.Errorf("%w: change the table here as the space has it, or velosync untrack %s %s", err, file, orWord(quoteArg(refused.Table), "TABLE"))
		}
		return err
	}
	return (&database{path: c.File}).explain(err)
}

// report shows what a round moved.
func (c *syncCmd) report(std streams, round replicator.Round) error {
	var err error
	if c.JSON {
		err = std.emit(round)
	} else {
		err = std.print(false, []record{roundRecord(round)}, roundColumns...)
	}
	if err == nil {
		c.tell(std, round)
	}
	return err
}

// tell says what a person may want to look at after a round.
func (c *syncCmd) tell(std streams, round replicator.Round) {
	if round.Restored {
		std.say("The master was restored from an older copy: %s pushed back from here", plural(round.PushedBackRows, "row"))
	}
	if round.DivergedRows > 0 {
		std.say("%s changed here while nothing logged it, and became what the master has; velosync conflicts shows what was here", plural(round.DivergedRows, "row"))
	}
	if n := round.LostRows; n > 0 {
		std.say("%s lost to a concurrent change and is kept: velosync conflicts %s", plural(n, "row"), quoteArg(c.File))
	}
	if n := round.RejectedRows; n > 0 {
		std.say("%s broke a constraint at the master and is kept: velosync conflicts %s", plural(n, "row"), quoteArg(c.File))
	}
	if n := round.ParkedRows; n > 0 {
		std.say("%s from the master can't be written here: velosync doctor %s", plural(n, "row"), quoteArg(c.File))
	}
}

// roundRecord is what people see of a round; its JSON says more.
func roundRecord(r replicator.Round) record {
	return record{}.
		add("mutations", int64(r.Mutations)).
		add("pushed_rows", int64(r.PushedRows)).add("pushed_bytes", r.PushedBytes).
		add("pulled_rows", int64(r.PulledRows)).add("pulled_bytes", r.PulledBytes).
		add("echo_rows", int64(r.EchoRows)).add("lost_rows", int64(r.LostRows)).add("ms", r.Took.Milliseconds())
}

// roundColumns are what people see of a round.
var roundColumns = []column{
	numeric("MUTATIONS", "mutations"), numeric("SENT ROWS", "pushed_rows"), size("BYTES", "pushed_bytes"),
	numeric("RECEIVED ROWS", "pulled_rows"), size("BYTES", "pulled_bytes"), numeric("ECHOES LEFT OUT", "echo_rows"),
	numeric("LOST", "lost_rows"), numeric("MS", "ms"),
}
