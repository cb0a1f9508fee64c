package replicator_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

// A child is this test binary once more, as a process that kills itself with SIGKILL at a
// numbered point.
type child struct {
	Role string // "app", "replicator" or "master"

	File          string // the database; of the master, its directory
	Master, Token string
	Listen        string

	// DieAt is the point, from 1: of a replicator the step of its round, of a master the
	// request, counted twice, before and after it is handled. 0: it lives.
	DieAt int
	// MostBytes, if set, is the most that a file of the replicator may have, as on a disk that
	// is full.
	MostBytes uint64
	out       *os.File // its standard output, or nil
	// Script of the app, whose statements are run one by one; DieAt counts them.
	Script []string
}

const childEnv = "VELOSYNC_TEST_CHILD"

// start runs the child.
func (c child) start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := c.command(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// command is what runs the child.
func (c child) command(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = t.Output()
	if c.out != nil {
		cmd.Stdout = c.out
	}
	return cmd
}

// run runs the child to its end, and says whether it killed itself.
func (c child) run(t *testing.T) (killed bool) {
	t.Helper()
	err := c.start(t).Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("%s: %v", c.Role, err)
	}
	return false
}

// startMaster starts a child that is a master, and waits until it listens. kill ends it as
// SIGKILL does.
func (c child) startMaster(t *testing.T) (address string, kill func()) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	c.out = write
	cmd := c.start(t)
	write.Close()
	address, err = bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatalf("the master does not listen: %v", err)
	}
	return strings.TrimSpace(address), func() { _ = cmd.Process.Signal(syscall.SIGKILL); _ = cmd.Wait() }
}

// childMain is main of a child.
func childMain(text string) error {
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	point := 0
	die := func() {
		if point++; point == c.DieAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
	switch c.Role {
	case "app":
		db, err := sql.Open("velosync", c.File)
		if err != nil {
			return err
		}
		db.SetMaxOpenConns(1)
		for _, s := range c.Script {
			die()
			if _, err := db.Exec(s); err != nil {
				return err
			}
		}
		die()
		return db.Close()
	case "replicator":
		if c.MostBytes > 0 {
			signal.Ignore(syscall.SIGXFSZ)
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: c.MostBytes, Max: c.MostBytes}); err != nil {
				return err
			}
		}
		r, err := replicator.New(c.File, replicator.Options{
			Master: c.Master, Token: c.Token, Log: slog.New(slog.DiscardHandler), Parts: capture.Limits{Rows: 2},
			Step: func(string) error { die(); return nil },
		})
		if err != nil {
			return err
		}
		_, err = r.Sync(context.Background())
		die()
		return errors.Join(err, r.Close())
	case "master":
		return c.serve()
	}
	return fmt.Errorf("role %q", c.Role)
}

// serve runs a masterd's engine and server until the process is killed.
func (c child) serve() error {
	engine, err := store.OpenSQLite(c.File, store.Options{PageRows: 2})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	handler := server.New(engine, server.Options{Insecure: true, Staging: filepath.Join(c.File, "staging")}).Handler()
	var point atomic.Int64
	die := func() {
		if int(point.Add(1)) == c.DieAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	fmt.Println(l.Addr()) // the parent waits for it
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		die()
		held := httptest.NewRecorder() // what is done is done, and nothing is sent yet
		handler.ServeHTTP(held, r)
		die()
		for k, v := range held.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(held.Code)
		_, _ = w.Write(held.Body.Bytes())
	}))
}
