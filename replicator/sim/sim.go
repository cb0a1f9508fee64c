// Package sim runs many devices and a master through random schedules with faults, on the
// real code: database files, triggers, replicators, and the server over a real store. Only
// the network between them is made up.
//
//	result, err := sim.Run(7, sim.Options{}) // err is a *Failure
//
// A seed names a schedule: the same one each time. While it runs, a model that knows
// nothing of sequence numbers and clocks says what must have happened. It follows each
// value from the statement that wrote it: the version that stood in a cell when it was
// written over is what its author had seen. So the model knows which versions are
// concurrent, which of them stays, and what the conflict log has to say.
package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/sim/disk"
)

const defaultSteps = 60

// Options tunes a run. The zero value is ready to use.
type Options struct {
	// Steps is how many steps a schedule has before the network heals. Zero means 60.
	Steps int
	// Dir is where the run's files are made, and removed. Empty means memory where the
	// system has a file system in memory, else the system's temporary directory.
	Dir string
	// Life lets files go back in time; see life.
	Life bool

	// Digests lets every round compare rows with the master: nothing may differ, but what
	// rot damages in the end, which has to be found. Files go back in time with every second
	// seed, whatever Life says.
	Digests bool

	// steady keeps disks from failing, for a course that a test has written.
	steady bool
	// mutant is a fault put into the network that a run has to find.
	mutant mutant
	// schedule is the part of the seed that is run.
	schedule schedule
}

// A Result says what a run did.
type Result struct {
	Digest    [sha256.Size]byte // of all that happened
	Faults    map[string]int    // by kind
	Work      map[string]int    // what was done, by kind
	Devices   int
	Events    int // versions and deletes
	Conflicts map[string]int

	trace []string
}

// Operations counts transactions of applications and requests of devices.
func (r Result) Operations() int {
	n := r.Work["transactions"]
	for kind, times := range r.Work {
		if strings.HasSuffix(kind, " requests") {
			n += times
		}
	}
	return n
}

// A Simulation is a kind of run.
type Simulation struct {
	Name    string
	Options Options
}

// Simulations are all kinds of run.
var Simulations = []Simulation{
	{"schedules", Options{}},
	{"lives", Options{Life: true}},
	{"digests", Options{Digests: true}},
}

// A Failure says what a run found.
type Failure struct {
	Seed  int64
	Check string // that failed: What without what it found
	What  string
	Trace []string

	test     string
	step     int // that it failed in
	options  Options
	happened []draw
	shrunk   int // by so many runs, see Shrink
}

func (f *Failure) Error() string {
	how := ""
	if f.shrunk > 0 {
		how = fmt.Sprintf(", shrunk to %d steps and %d things that happen by chance in %d runs", len(f.options.schedule.steps), len(f.happened), f.shrunk)
	}
	return fmt.Sprintf("seed %d%s: %s\nrepeat it: VELOSYNC_SIM_SEEDS=%d-%d go test -count=1 -run %s ./replicator/sim\n%s",
		f.Seed, how, f.What, f.Seed, f.Seed, f.test, strings.Join(f.Trace, "\n"))
}

// healRounds is how many rounds each device gets to become equal to the master, once
// nothing is lost any more: the first brings what it has, the second what others had. The
// third finds nothing to do.
const healRounds = 3

// A world is one run.
type world struct {
	seed     int64
	o        Options
	rng      *rand.Rand // of the step
	random   io.Reader  // ids and names
	dir      string
	shape    shape
	clocks   wrongness
	disks    bool                  // disks fail, and the power
	sent     map[sender]change.LSN // up to which each has sent its log
	vanished set                   // events that a power cut took
	life     *life                 // nil: no file goes back in time
	forest   *forest               // nil: there are no lists and items

	now       int64 // unix ms, as all agree on it but for their skew
	writes    int64 // numbers the values written
	additions int   // of elements to sets
	txns      int
	calm      bool // nothing fails any more
	depth     int  // of rounds inside rounds
	step      int
	asked     int // how often chance was, in this step
	devices   []*device
	master    *master
	opened    []*disk.Disk
	late      []request // may arrive again
	cutOff    partition

	events    []*event // by id
	versions  map[cell]map[string]*event
	deletes   map[deleteName]*event
	shipped   set // events that came to the master by themselves
	settled   set // events that are current, followed by others, or in the conflict log
	transacts map[int][]*event
	withLater map[[32]byte]bool // schemas of devices, by digest: with the column that comes later

	trace    []string
	happened []draw
	digest   hash.Hash
	result   Result
}

// Run runs a seed. The error is a *Failure, or says that files can't be made.
func Run(seed int64, o Options) (Result, error) { return run(seed, o, (*world).run) }

// run runs a world by a course, which is the seed's own or one that a test has written.
func run(seed int64, o Options, course func(*world)) (result Result, err error) {
	if o.Steps == 0 {
		o.Steps = defaultSteps
	}
	if o.Digests {
		o.Life = seed%2 == 0
	}
	dir, err := tempDir(o.Dir)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], uint64(seed))
	w := &world{
		seed: seed, o: o, dir: dir,
		random: rand.NewChaCha8(key),
		now:    1_700_000_000_000,
		digest: sha256.New(), versions: make(map[cell]map[string]*event), deletes: make(map[deleteName]*event), transacts: make(map[int][]*event), withLater: make(map[[32]byte]bool),
		sent: make(map[sender]change.LSN),
	}
	w.result = Result{Faults: make(map[string]int), Work: make(map[string]int), Conflicts: make(map[string]int)}
	defer func() {
		if e := w.close(); e != nil && err == nil {
			err = e
		}
	}()
	defer func() {
		switch v := recover().(type) {
		case nil:
		case *Failure:
			result, err = w.result, w.failed(v)
		default:
			w.say("%s", debug.Stack())
			result, err = w.result, w.failed(&Failure{Check: "panic", What: fmt.Sprintf("panic: %v", v)})
		}
	}()
	course(w)
	w.digest.Sum(w.result.Digest[:0])
	w.result.Devices, w.result.Events, w.result.trace = len(w.devices), len(w.events), w.trace
	return w.result, nil
}

// tempDir makes the run's directory.
func tempDir(dir string) (string, error) {
	const memory, pattern = "/dev/shm", "velosync-sim-"
	if dir == "" {
		if made, err := os.MkdirTemp(memory, pattern); err == nil {
			return made, nil
		}
	}
	return os.MkdirTemp(dir, pattern)
}

func (w *world) run() {
	w.setUp()
	for _, step := range w.steps() {
		w.begin(step)
		w.tick()
		w.partitionBegins()
		for range 1 + len(w.devices)/10 {
			w.act()
		}
		w.devices[w.rng.IntN(len(w.devices))].jump(.1, "at rest")
		if w.o.Life && w.chance(.3) {
			w.live()
		}
	}
	w.heal()
	if w.o.Digests {
		w.rot()
	}
}

// setUp makes the master and the devices.
func (w *world) setUp() {
	w.begin(setUp)
	w.shape = newShape(w)
	if w.forest = newForest(w); w.forest != nil {
		w.say("lists and items: ON DELETE %s, rows %v", w.forest.shape.action, w.forest.shape.keys)
	}
	w.clocks = w.drawWrongness()
	w.disks = w.chance(.35) && !w.o.steady
	if w.o.Life {
		w.life = newLife(w)
		w.say("%s", w.life)
	}
	w.master = newMaster(w)
	n := w.drawDevices()
	for i := range n {
		w.devices = append(w.devices, newDevice(w, i, i == 0 || w.chance(.5)))
	}
	w.say("%d devices, %s", n, w.shape)
}

// act does one thing.
func (w *world) act() {
	d := w.devices[w.rng.IntN(len(w.devices))]
	if w.shape.alters && w.chance(.03) {
		d.alter()
		return
	}
	if w.forest != nil && w.treeChance(.04) {
		d.alterTree()
	}
	switch x := w.rng.Float64(); {
	case x < .45:
		d.write()
	case x < .86:
		d.sync()
	case x < .91:
		w.deliverLate()
	case x < .945:
		if w.disks && w.chance(.5) {
			d.cutPower()
			return
		}
		w.fault("device reopened")
		w.say("%s is closed and opened", d)
		d.reopen()
	case x < .965:
		w.master.restart()
	case x < .98:
		w.master.crash()
	default:
		if w.chance(.3) {
			w.setBack()
		}
		w.now += 90_000 // the master forgets tombstones once a minute
		w.say("90 s pass")
	}
}

// heal lets all devices sync in peace, and checks that they agree.
func (w *world) heal() {
	w.begin(w.o.Steps)
	w.say("the network heals")
	w.calm = true
	for _, d := range w.devices {
		if w.shape.alters && w.chance(.5) {
			d.alter()
		}
		if w.forest != nil && w.treeChance(.1) {
			d.alterTree()
		}
	}
	for round := range healRounds {
		for _, d := range w.devices {
			w.tick()
			r := d.sync()
			if round == healRounds-1 && (r.PushedRows > 0 || r.PulledRows > 0) {
				w.fail("%s pushes %d rows and pulls %d in its round %d of peace: it has no end", d, r.PushedRows, r.PulledRows, round+1)
			}
		}
	}
	rows := w.master.at[w.master.head]
	for _, d := range w.devices {
		d.checkHealed(rows)
	}
	if w.life != nil {
		w.checkLife(rows)
	} else {
		w.master.checkNothingLost()
	}
	w.checkTreeHealed()
	for _, key := range sortedKeys(rows) {
		w.say("master has %s %s", key, w.shape.show(rows[key]))
	}
}

// tick lets time pass, not always: edits at the same time are a case of their own.
func (w *world) tick() {
	if w.chance(.7) {
		w.now += 1 + w.rng.Int64N(4)
	}
}

func (w *world) fault(kind string) { w.result.Faults[kind]++ }

func (w *world) work(kind string, n int) { w.result.Work[kind] += n }

// say adds a line to the trace, and to the digest.
func (w *world) say(format string, args ...any) {
	line := fmt.Sprintf("%3d %s%s", w.step, strings.Repeat("  ", w.depth), fmt.Sprintf(format, args...))
	line = strings.ReplaceAll(line, w.dir, "") // errors name files, and each run has its own
	w.trace = append(w.trace, line)
	io.WriteString(w.digest, line+"\n")
}

// fail ends the run.
func (w *world) fail(format string, args ...any) {
	panic(&Failure{Check: format, What: fmt.Sprintf(format, args...)})
}

// must ends the run on an error.
func (w *world) must(err error, doing string) {
	if err == nil {
		return
	}
	at, _, _, _ := runtime.Caller(1)
	_, check, _ := strings.Cut(filepath.Base(runtime.FuncForPC(at).Name()), ".")
	panic(&Failure{Check: "error in " + check, What: fmt.Sprintf("%s: %v", doing, err)})
}

// failed says what a failure has to say of the run.
func (w *world) failed(f *Failure) *Failure {
	f.test = "TestSchedules"
	if w.o.Life {
		f.test = "TestLives"
	}
	if w.o.Digests {
		f.test = "TestDigests"
	}
	f.Seed, f.Trace, f.step, f.options, f.happened = w.seed, w.trace, w.step, w.o, w.happened
	return f
}

func (w *world) close() error {
	var errs []error
	for _, d := range w.devices {
		errs = append(errs, d.close())
	}
	if w.master != nil {
		errs = append(errs, w.master.close())
	}
	for _, d := range w.opened {
		d.Close()
	}
	return errors.Join(errs...)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// A shape is what a seed's table is like.
type shape struct {
	groups   string // the option of velosync_track
	regs     [][]int
	weighted bool
	alters   bool     // devices add a column
	counts   bool     // there is a table of counters, see counter.go
	unique   bool     // the last column is UNIQUE; with Options.Life
	keys     []string // the model's names of the rows that there can be
	key      keyKind
	rows     map[string]string // what names a row in the log and on the wire, to its name here
	pageRows int
	parts    int // rows of a part of a push, 0: all in one
	retries  int // how often a device sends a request of a round again; below 0: never
	compact  int // log rows above which the log is compacted in place, 0: as in earnest
	offered  int // rows from which the master offers a snapshot, 0: as in earnest
	lag      int // how far behind a snapshot may be, in hundredths of its rows
}

// The columns of the table beside its key. w is the weight, where there is one; the last
// comes later, see schema.go.
var columns = []string{"a", "b", "c", "w", laterColumn}

const weightColumn = 3

func newShape(w *world) shape {
	var s shape
	switch {
	case w.seed%2 == 0:
		s.groups, s.regs = `[]`, [][]int{{0}, {1}, {2}, {3}}
	case w.seed%3 == 0:
		s.groups, s.regs = `[["a","b"]]`, [][]int{{0, 1}, {2}, {3}}
	default:
		s.groups, s.regs = `[["a","b","c","w"]]`, [][]int{{0, 1, 2, 3}}
	}
	// A column that comes later and a history that goes back have an oracle each, and none
	// for both at once.
	if len(s.regs) > 1 && w.seed%7 < 4 && !w.o.Life {
		s.alters, s.regs = true, append(s.regs, []int{4})
	}
	s.weighted = w.seed/2%2 == 0
	s.counts = w.seed%5 < 3 && !w.o.Life
	for i := range 1 + w.rng.IntN(5) {
		s.keys = append(s.keys, fmt.Sprintf("k%d", i))
	}
	s.key = keyKinds[w.rng.IntN(len(keyKinds))]
	if w.o.Life && len(s.regs) == 1 && w.chance(.6) {
		s.unique = true
		s.key.table = strings.Replace(s.key.table, "w REAL", "w REAL UNIQUE", 1)
	}
	s.rows = make(map[string]string)
	for i, key := range s.keys {
		s.rows[textOf([]change.Value{s.key.pk(i)})] = key
	}
	s.pageRows = []int{1, 2, 3, 5000}[w.rng.IntN(4)]
	s.parts = []int{0, 0, 1, 2}[w.rng.IntN(4)]
	s.compact = []int{0, 1, 3, 10}[w.rng.IntN(4)]
	s.retries = []int{-1, 2}[w.seed/4%2]
	s.offered, s.lag = []int{0, 1, 1, 3}[w.seed/3%4], []int{1, 300, 3000}[w.seed/5%3]
	return s
}

func (s shape) String() string {
	return fmt.Sprintf("%d keys (%s), groups %s, weighted %v, unique %v, %d rows a page, %d a part, sent again %d times, compacted above %d, a column comes later %v, counters %v, a snapshot from %d rows on, %d %% behind", len(s.keys), s.key.columns, s.groups, s.weighted, s.unique, s.pageRows, s.parts, s.retries, s.compact, s.alters, s.counts, s.offered, s.lag)
}

func (s shape) all() change.Bits { return change.AllBits(len(s.regs)) }

// A keyKind is a form of primary key. Rows have a number in it.
type keyKind struct {
	table   string // CREATE TABLE, with the other columns
	columns string
	where   string
	text    string                     // SQL that tells a row
	values  func(i int) []change.Value // of the columns
	pk      func(i int) change.Value   // the row's name in the log and on the wire
}

const otherColumns = "a TEXT, b TEXT, c TEXT, w REAL"

var keyKinds = []keyKind{
	{
		table: `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, ` + otherColumns + `)`, columns: "id", where: "id = ?", text: "id",
		values: func(i int) []change.Value { return []change.Value{fmt.Sprintf("k%d", i)} },
		pk:     func(i int) change.Value { return fmt.Sprintf("k%d", i) },
	},
	{
		table: `CREATE TABLE notes(id INT PRIMARY KEY NOT NULL, ` + otherColumns + `) WITHOUT ROWID`, columns: "id", where: "id = ?", text: "id",
		values: func(i int) []change.Value { return []change.Value{int64(i) - 2} },
		pk:     func(i int) change.Value { return int64(i) - 2 },
	},
	{
		table: `CREATE TABLE notes(id BLOB PRIMARY KEY NOT NULL, ` + otherColumns + `)`, columns: "id", where: "id = ?", text: "hex(id)",
		values: func(i int) []change.Value { return []change.Value{[]byte{0, byte(i)}} },
		pk:     func(i int) change.Value { return []byte{0, byte(i)} },
	},
	{
		table: `CREATE TABLE notes(x TEXT NOT NULL, y INT NOT NULL, ` + otherColumns + `, PRIMARY KEY (x, y))`, columns: "x, y", where: "x = ? AND y = ?", text: "x || y",
		values: func(i int) []change.Value { return []change.Value{string(rune('p' + i/2)), int64(i % 2)} },
		pk:     func(i int) change.Value { return fmt.Sprintf(`["t%c","i%d"]`, 'p'+i/2, i%2) },
	},
}

// keyValues returns the values of a row's key columns.
func (s shape) keyValues(key string) []change.Value { return s.key.values(slices.Index(s.keys, key)) }

// name turns what names a row in the log and on the wire into its name here.
func (w *world) name(pk change.Value) string {
	key, ok := w.shape.rows[textOf([]change.Value{pk})]
	if !ok {
		w.fail("a row is named %v (%T), which none is", pk, pk)
	}
	return key
}

// show writes a row for the trace.
func (s shape) show(row []*event) string {
	if row == nil {
		return "-"
	}
	parts := make([]string, len(row))
	for i, e := range row {
		parts[i] = e.String()
	}
	return strings.Join(parts, " ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
