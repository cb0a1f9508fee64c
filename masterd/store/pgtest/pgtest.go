// Package pgtest runs a PostgreSQL server inside a test: the real one, from the system's
// packages, in a new directory, on a Unix socket that only this machine can reach.
//
//	server := pgtest.Start(t)
//	engine, err := store.OpenPostgres(ctx, server.URL("notes"), t.TempDir(), store.Options{})
package pgtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A Server is a running server. Its methods fail the test when they can't do what they say.
type Server struct {
	t    testing.TB
	bin  string // where its programs are
	dir  string // of data and socket
	user *syscall.Credential
	set  []string // settings

	mu      sync.Mutex
	process *exec.Cmd
	exited  chan struct{}
	heir    *exec.Cmd // ends the server if this process is killed

	adminMu sync.Mutex
	admin   *pgx.Conn // of Exec, kept: to fork a server process costs more than most statements
}

// Start starts a server, which ends with the test, however that ends. What it commits survives Restart, and no
// power cut unless a setting is "fsync=on".
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{t: t, set: append([]string{"listen_addresses=", "fsync=off", "full_page_writes=off", "autovacuum=off", "max_connections=300"}, settings...)}
	s.bin = programs(t)
	var err error
	if s.dir, err = os.MkdirTemp("", "pgtest"); err != nil { // t.TempDir() may be too long for a socket's name
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.hangUp()
		s.stop(syscall.SIGQUIT)
		if err := os.RemoveAll(s.dir); err != nil {
			t.Error(err)
		}
	})
	if os.Geteuid() == 0 { // the server refuses to run as root
		s.user = unprivileged(t)
		if err := os.Chown(s.dir, int(s.user.Uid), int(s.user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput()
	if err != nil {
		t.Fatalf("pgtest: initdb: %v\n%s", err, out)
	}
	s.start()
	return s
}

// programs finds initdb and postgres, which Debian keeps out of the PATH.
func programs(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is well formed
	if len(found) == 0 {
		t.Fatal("pgtest: no PostgreSQL server on this machine: .ci/setup installs it")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

// unprivileged returns the user that the package made, or nobody.
func unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatal("pgtest: no user that the server could run as")
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = s.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	return c
}

// start starts the server and returns when it takes connections.
func (s *Server) start() {
	s.t.Helper()
	args := []string{"-D", s.data(), "-k", s.dir}
	for _, x := range s.set {
		args = append(args, "-c", x)
	}
	c := s.command("postgres", args...)
	errors, err := c.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		s.t.Fatalf("pgtest: %v", err)
	}
	heir, err := s.startHeir(c.Process.Pid)
	if err != nil {
		_ = c.Process.Kill()
		s.t.Fatalf("pgtest: %v", err)
	}
	s.mu.Lock()
	s.process, s.heir, s.exited = c, heir, make(chan struct{})
	exited := s.exited
	s.mu.Unlock()
	ready := make(chan string, 1)
	go func() {
		var log strings.Builder
		lines := bufio.NewScanner(io.LimitReader(errors, 1<<30))
		for told := false; lines.Scan(); {
			if told {
				continue
			}
			log.WriteString(lines.Text() + "\n")
			if told = strings.Contains(lines.Text(), "ready to accept connections"); told {
				ready <- ""
			}
		}
		err := c.Wait()
		close(exited)
		select {
		case ready <- fmt.Sprintf("%v\n%s", err, log.String()):
		default:
		}
	}()
	if failed := <-ready; failed != "" {
		s.t.Fatalf("pgtest: the server did not start: %s", failed)
	}
}

// startHeir starts a process that ends the server, and deletes its directory, when this one
// is gone, killed say: its end of the pipe is closed then. It is in a process group of its
// own, which a signal to all of the test's does not reach.
func (s *Server) startHeir(server int) (*exec.Cmd, error) {
	c := exec.Command("sh", "-c", `read -r nothing; kill -QUIT "$1"
		for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" 2>/dev/null || break; sleep 0.2; done; rm -rf "$2"`, "sh", strconv.Itoa(server), s.dir)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := c.StdinPipe(); err != nil {
		return nil, err
	}
	return c, c.Start()
}

func (s *Server) stop(signal os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(signal) // it may have ended
	<-s.exited
	_ = s.heir.Process.Kill() // before the server's pid can be another's
	_ = s.heir.Wait()
	s.process, s.heir = nil, nil
}

// Restart ends all connections as a crash does, and starts the server again. It holds what
// was committed.
func (s *Server) Restart() {
	s.t.Helper()
	s.hangUp()
	s.stop(syscall.SIGQUIT)
	s.start()
}

// URL returns the address of a schema of its own, which it makes when it is new.
func (s *Server) URL(schema string) string {
	s.t.Helper()
	s.Exec("CREATE SCHEMA IF NOT EXISTS " + pgx.Identifier{schema}.Sanitize())
	q := url.Values{"host": {s.dir}, "search_path": {schema}}
	return "postgres://postgres@/postgres?" + q.Encode()
}

// Copy makes the schema to, a copy of all tables of another as they are at one time.
func (s *Server) Copy(from, to string) {
	s.t.Helper()
	s.Exec(fmt.Sprintf(`DO $$
		DECLARE t text;
		BEGIN
			CREATE SCHEMA %[2]s;
			FOR t IN SELECT table_name FROM information_schema.tables WHERE table_schema = '%[1]s' LOOP
				EXECUTE format('CREATE TABLE %[2]s.%%I (LIKE %[1]s.%%I INCLUDING ALL)', t, t);
				EXECUTE format('INSERT INTO %[2]s.%%I SELECT * FROM %[1]s.%%I', t, t);
			END LOOP;
		END $$`, from, to))
}

// Exec runs a statement, in a transaction that sees the database as it was at one time.
func (s *Server) Exec(statement string) {
	s.t.Helper()
	ctx := context.Background()
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	if s.admin == nil {
		conn, err := pgx.Connect(ctx, "postgres://postgres@/postgres?host="+url.QueryEscape(s.dir))
		if err != nil {
			s.t.Fatalf("pgtest: %v", err)
		}
		s.admin = conn
	}
	err := pgx.BeginTxFunc(ctx, s.admin, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol) // each is sent once: nothing to prepare
		return err
	})
	if err != nil {
		s.t.Fatalf("pgtest: %v", err)
	}
}

// hangUp ends the connection of Exec.
func (s *Server) hangUp() {
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	if s.admin != nil {
		_ = s.admin.Close(context.Background()) // the server ends next
		s.admin = nil
	}
}
