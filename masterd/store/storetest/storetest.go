// Package storetest is the suite that every engine of masterd/store passes.
//
//	storetest.Run(t, storetest.Config{
//		Open:  func(dir string, o store.Options) (store.Engine, error) { return store.OpenSQLite(dir, o) },
//		Crash: func(t testing.TB, dir string) string { … },
//	})
package storetest

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

// A Config says how an engine is opened.
type Config struct {
	// Open opens the engine that keeps its data in, or under the name, dir.
	Open func(dir string, o store.Options) (store.Engine, error)
	// Crash returns where the data that dir holds now, its engine still open, can be
	// opened as after the end of the process.
	Crash func(t testing.TB, dir string) string
	// Turns says that Open opens two engines on the same data, which are asked in turn. So
	// the opening that an answer tells of may not be the one that writes next.
	Turns bool
	// Few says that the random tests draw few cases: they are about code that another engine,
	// which takes them all, has in common with this one, whose every call costs more.
	Few bool
}

// cases is how many cases a random test draws, anew in each run: all of them if the engine is
// not one that takes few, or in make soak.
func (c Config) cases(few, all int) int {
	if c.Few && os.Getenv("VELOSYNC_FULL") == "" {
		return few
	}
	return all
}

// Run runs the suite.
func Run(t *testing.T, c Config) {
	for _, group := range []struct {
		name string
		run  func(*testing.T, Config)
	}{
		{"Round", testRound},
		{"Identity", testIdentity},
		{"Digest", testDigest},
		{"Pull", testPull},
		{"Snapshot", testSnapshot},
		{"Resolve", testResolve},
		{"Orders", testOrders},
		{"Policies", testPolicies},
		{"Constraints", testConstraints},
		{"Clash", testClash},
		{"Schema", testSchema},
		{"Hostile", testHostile},
		{"Retention", testRetention},
		{"Crash", testCrash},
		{"Concurrency", testConcurrency},
		{"Tokens", testTokens},
		{"Random", testRandom},
	} {
		t.Run(group.name, func(t *testing.T) { group.run(t, c) })
	}
}

// A clock is the master's.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// A master is an engine with one space.
type master struct {
	t      testing.TB
	config Config
	dir    string
	o      store.Options
	clock  *clock
	engine store.Engine
	space  store.Space
}

func newMaster(t testing.TB, c Config, o store.Options) *master {
	t.Helper()
	m := &master{t: t, config: c, dir: t.TempDir(), o: o, clock: &clock{t: time.UnixMilli(1_700_000_000_000)}}
	if m.o.Now == nil {
		m.o.Now = m.clock.now
	}
	m.open()
	t.Cleanup(func() {
		if err := m.engine.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func (m *master) open() {
	m.t.Helper()
	var err error
	if m.engine, err = m.config.Open(m.dir, m.o); err != nil {
		m.t.Fatalf("open: %v", err)
	}
	if m.space, err = m.engine.Space(context.Background(), "notes"); err != nil {
		m.t.Fatalf("open space: %v", err)
	}
}

// reopen closes the engine and opens it again.
func (m *master) reopen(clients ...*client) {
	m.t.Helper()
	if err := m.engine.Close(); err != nil {
		m.t.Fatalf("close: %v", err)
	}
	m.open()
	for _, c := range clients {
		c.space = m.space
	}
}

// crash goes on with what the end of the process would leave.
func (m *master) crash(clients ...*client) {
	m.t.Helper()
	dir := m.config.Crash(m.t, m.dir)
	if err := m.engine.Close(); err != nil {
		m.t.Fatalf("close: %v", err)
	}
	m.dir = dir
	m.open()
	for _, c := range clients {
		c.space = m.space
	}
}

// stats returns the space's counters, checked against what a new device gets.
func (m *master) stats() store.Stats {
	m.t.Helper()
	st, err := m.space.Stats(context.Background())
	if err != nil {
		m.t.Fatalf("stats: %v", err)
	}
	return st
}

// notes is the table of most tests: two columns and a group.
const notes = `CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, model TEXT)`

func notesTables(t testing.TB) change.Schema {
	return tables(t, notes, map[string]change.Options{"notes": {Groups: [][]string{{"body", "model"}}}})
}

func note(title, body string) values { return values{"title": title, "body": body, "model": "m"} }

// pair returns a master and two devices that hold the rows that the first one wrote.
func pair(t testing.TB, c Config, rows ...edit) (*master, *client, *client) {
	t.Helper()
	m := newMaster(t, c, store.Options{})
	a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
	a.sync(rows...)
	b.sync()
	a.sync()
	return m, a, b
}

// agree syncs the clients until they are quiet and checks that they hold the same.
func agree(t testing.TB, clients ...*client) {
	t.Helper()
	for range 3 {
		for _, c := range clients {
			c.sync()
		}
	}
	for _, c := range clients[1:] {
		for name := range clients[0].rows {
			c.has(name, clients[0].rows[name])
		}
		for name := range c.rows {
			clients[0].has(name, c.rows[name])
		}
	}
}

// seeded returns a source that VELOSYNC_SEED repeats.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("VELOSYNC_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("VELOSYNC_SEED: %v", err)
		}
	}
	t.Logf("VELOSYNC_SEED=%d repeats this", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
