// Command velosync is the device's side on the command line: it tracks tables of a SQLite
// database, syncs them with a master, and shows what is pending, in conflict or wrong.
//
//	velosync demo
//	velosync track app.db notes --weight confidence
//	velosync sync app.db --master https://sync.example.com --space notes --watch
//
// velosync --help lists the commands and exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "velosync:", err)
	}
	os.Exit(exitCode(err))
}

// Exit codes.
const (
	exitFailed  = 1 // it ran, and failed
	exitUsage   = 2 // the command line is wrong
	exitOffline = 3 // the master can't be reached
	exitFile    = 4 // FILE can't be used
	exitFound   = 5 // doctor found something, or wait's time ran out
)

const description = `VeloSync on a device: track tables of a SQLite database and sync them.

Data goes to standard output: a table on a terminal, tab-separated columns otherwise, one
JSON object a line with --json. Words for people go to standard error.

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 the master can't be reached (changes
stay in FILE), 4 FILE can't be used (missing, no database, read-only, locked, or another
process syncs it), 5 doctor found problems or wait ran out of time. Where doctor finds none
and could not compare rows with the master, it ends as sync does: 3, or 1 if it was refused.`

// A codeError is an error with the exit code that it ends the program with.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

func exitCode(err error) int {
	var e *codeError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	}
	return exitFailed
}

func usage(format string, args ...any) error {
	return &codeError{exitUsage, fmt.Errorf(format, args...)}
}

type cli struct {
	Demo      demoCmd      `cmd:"" help:"Two devices and a master on this machine: search, offline edits, conflicts, convergence."`
	Track     trackCmd     `cmd:"" help:"Log every change of a table from now on, and send its present rows."`
	Untrack   untrackCmd   `cmd:"" help:"Stop logging changes of a table; its rows stay."`
	Status    statusCmd    `cmd:"" help:"Show the device, its master and what is pending."`
	Sync      syncCmd      `cmd:"" help:"Push and pull until nothing is left, or for as long as it runs."`
	Wait      waitCmd      `cmd:"" help:"Wait until another process has synced all pending changes."`
	Conflicts conflictsCmd `cmd:"" help:"Show what lost against a concurrent change, and by which rule."`
	Resolve   resolveCmd   `cmd:"" help:"Settle a conflict: bring back mine, or agree with theirs."`
	Log       logCmd       `cmd:"" help:"Show the log of changes that are not acknowledged yet."`
	Doctor    doctorCmd    `cmd:"" help:"Check the file, its triggers and its sync, compare all rows with the master, and say what to do."`
}

// fileArg is the database that a command is about.
type fileArg struct {
	File string `arg:"" placeholder:"FILE" help:"The SQLite database."`
}

// jsonFlag is on every command.
type jsonFlag struct {
	JSON bool `help:"Print JSON, one object a line."`
}

// run executes the command that args say and returns when it has ended.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	type exit struct{ code int }
	defer func() { // kong ends the program after --help; here that is a return
		if v := recover(); v != nil {
			e, ok := v.(exit)
			if !ok {
				panic(v)
			}
			if e.code != 0 {
				err = usage("see velosync --help")
			}
		}
	}()
	var c cli
	parser, err := kong.New(&c, kong.Name("velosync"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exit{code}) }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		panic(err) // the structs above are wrong
	}
	command, err := parser.Parse(args)
	if err != nil {
		see := "velosync --help"
		var parse *kong.ParseError
		if errors.As(err, &parse) && parse.Context.Selected() != nil {
			see = "velosync " + parse.Context.Selected().Name + " --help"
		}
		return usage("%w; see %s", err, see)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run(newStreams(stdout, stderr))
}
