// Command masterd is the master: it serves spaces to devices, and makes the tokens that
// admit them.
//
//	masterd token new --space notes --device phone --data /var/lib/masterd
//	masterd --listen 127.0.0.1:8440 --data /var/lib/masterd
//
// masterd --help lists the flags and exit codes.
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
		fmt.Fprintln(os.Stderr, "masterd:", err)
	}
	os.Exit(exitCode(err))
}

// Exit codes.
const (
	exitFailed = 1 // it ran, and failed
	exitUsage  = 2 // the flags are wrong, or not safe together
	exitListen = 3 // the address can't be listened on
	exitData   = 4 // the data directory or database can't be used
)

const description = `The VeloSync master: serves spaces to devices.

Exit codes: 0 done or stopped by a signal, 1 failed while running, 2 wrong flags,
3 the address can't be listened on, 4 the data directory or database can't be used.`

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
	Serve serveCmd `cmd:"" default:"withargs" help:"Serve spaces until SIGINT or SIGTERM (the default command)."`
	Token tokenCmd `cmd:"" help:"Make, list and revoke the tokens that devices show."`
}

// streams is where a command writes.
type streams struct{ out, err io.Writer }

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
				err = usage("see masterd --help")
			}
		}
	}()
	var c cli
	parser, err := kong.New(&c, kong.Name("masterd"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exit{code}) }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		panic(err) // the structs above are wrong
	}
	command, err := parser.Parse(args)
	if err != nil {
		return usage("%w; see masterd --help", err)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run(streams{stdout, stderr})
}
