package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/velosync/velosync/replicator"
)

// demoCmd is velosync demo.
type demoCmd struct {
	Dir   string `arg:"" optional:"" placeholder:"DIR" help:"Folder of text or Markdown files to index; without it the documentation of the installed Go."`
	Query string `placeholder:"TEXT" help:"What to search for."`
	Keep  string `placeholder:"DIR" help:"Leave the databases there, for velosync status and friends."`
	jsonFlag
}

// Run plays two devices and a master, and returns an error unless all three end with the
// same rows.
func (c *demoCmd) Run(ctx context.Context, std streams) (err error) {
	d := &demo{demoCmd: *c, std: std, began: time.Now()}
	d.bars.std = std
	if err := d.makeWork(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, step := range []func(context.Context) error{
		d.read, d.index, d.firstSync, d.workOffline, d.syncAgain, d.conflicts, d.settle, d.searchAll, d.compare,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// demo is what the steps share. They run in the order in which they stand in this file.
type demo struct {
	demoCmd
	std   streams
	bars  progress
	began time.Time
	step  int

	work          string // folder of the databases
	from          string // what was read, for people
	docs          []document
	laptop, phone *demoDevice
	master        demoMaster
	picked        []string // ids of the rows that both devices edit
}

// makeWork makes the folder of the databases.
func (d *demo) makeWork() (err error) {
	if d.Keep == "" {
		d.work, err = os.MkdirTemp("", "velosync-demo-")
		return err
	}
	d.work = d.Keep
	if entries, err := os.ReadDir(d.Keep); err == nil && len(entries) > 0 {
		return usage("--keep %s: the folder is not empty: name a new one", d.Keep)
	}
	return os.MkdirAll(d.Keep, 0o755)
}

// close ends what runs, and removes the databases unless they are wanted.
func (d *demo) close() error {
	err := d.master.close()
	for _, dev := range d.devices() {
		err = errors.Join(err, dev.db.Close())
	}
	if d.Keep == "" {
		err = errors.Join(err, os.RemoveAll(d.work))
	}
	return err
}

func (d *demo) devices() []*demoDevice {
	return slices.DeleteFunc([]*demoDevice{d.laptop, d.phone}, func(dev *demoDevice) bool { return dev == nil })
}

// fewestDocs is what the edits below need, with rows to spare that nobody edits.
const fewestDocs = 10

// read finds the documents.
func (d *demo) read(ctx context.Context) (err error) {
	if d.Dir != "" {
		d.from = "the texts in " + d.Dir
		d.docs, err = textDocuments(ctx, d.Dir)
	} else {
		var goroot string
		if goroot, err = findGOROOT(ctx); err != nil {
			return err
		}
		d.from = "the documentation of " + goVersion(goroot)
		d.docs, err = goDocuments(ctx, goroot)
	}
	switch {
	case err != nil:
		return err
	case len(d.docs) < fewestDocs:
		return fmt.Errorf("%s: found %s, the demo needs %d: give a folder with more .md or .txt files",
			d.from, plural(len(d.docs), "passage"), fewestDocs)
	}
	if d.Query == "" {
		d.Query = "compress data with gzip"
		if d.Dir != "" {
			d.Query = d.docs[len(d.docs)/2].Title
		}
	}
	d.picked = pick(d.docs, "bufio.Scanner", "io.Copy", "sync.WaitGroup", "os.ReadFile", "strings.Builder")
	d.text("VeloSync demo: two devices and a master on this machine, over HTTP on 127.0.0.1.")
	return nil
}

// goVersion names a Go by its VERSION file.
func goVersion(goroot string) string {
	b, err := os.ReadFile(filepath.Join(goroot, "VERSION"))
	version, _, _ := strings.Cut(string(b), "\n")
	if err != nil || version == "" {
		return "Go in " + goroot
	}
	return version
}

// pick returns the ids of as many documents as are named: those, where they exist, else others
// from all over the list.
func pick(docs []document, names ...string) []string {
	var ids []string
	for i, name := range names {
		at := slices.IndexFunc(docs, func(doc document) bool { return doc.ID == name })
		if at < 0 {
			at = i * len(docs) / len(names)
		}
		for slices.Contains(ids, docs[at].ID) {
			at = (at + 1) % len(docs)
		}
		ids = append(ids, docs[at].ID)
	}
	return ids
}

// index makes the devices and gives every other package, or file, to each.
func (d *demo) index(ctx context.Context) (err error) {
	d.heading("Each device indexes half of %s", d.from)
	parts := halves(d.docs)
	if d.laptop, err = openDemoDevice(ctx, "laptop", filepath.Join(d.work, "laptop.db")); err != nil {
		return err
	}
	if d.phone, err = openDemoDevice(ctx, "phone", filepath.Join(d.work, "phone.db")); err != nil {
		return err
	}
	d.text("  each doc a row with its text and a %d-dimensional embedding (hashed words and word pieces)", embeddingDims)
	for i, dev := range d.devices() {
		began := time.Now()
		if err := dev.index(ctx, parts[i]); err != nil {
			return err
		}
		took := time.Since(began)
		d.event("index", record{}.add("device", dev.name).add("rows", len(parts[i])).add("ms", took.Milliseconds()))
		d.text("  %-7s %s rows embedded, inserted and logged in %s", dev.name, count(len(parts[i])), milliseconds(took))
	}
	d.text("\n  %s", d.dim("SELECT id, title, cosine_similarity(embedding, ?) FROM docs ORDER BY 3 DESC LIMIT 2"))
	d.text("  what the device itself has, for %q:", clip(d.Query, 50))
	for _, dev := range d.devices() {
		list, err := dev.search(ctx, d.Query, 2)
		if err != nil {
			return err
		}
		for _, r := range list {
			d.event("search", record{}.add("device", dev.name).add("query", d.Query).add("id", r.ID).add("similarity", r.Similarity))
			d.text("  %-7s %.3f  %s", dev.name, r.Similarity, clip(r.ID, 50))
		}
	}
	return nil
}

// halves deals packages, or files, in turn to two lists.
func halves(docs []document) (parts [2][]document) {
	last, n := "", 1
	for _, doc := range docs {
		whole, _, isText := strings.Cut(doc.ID, "#")
		if !isText {
			whole = doc.Package
		}
		if whole != last {
			last, n = whole, 1-n
		}
		parts[n] = append(parts[n], doc)
	}
	if len(parts[1]) == 0 { // a single file
		half := len(docs) / 2
		parts = [2][]document{docs[:half], docs[half:]}
	}
	return parts
}

// firstSync brings both halves together.
func (d *demo) firstSync(ctx context.Context) (err error) {
	if err := os.Mkdir(filepath.Join(d.work, "master"), 0o700); err != nil {
		return err
	}
	d.master.dir = filepath.Join(d.work, "master")
	for _, dev := range d.devices() {
		if dev.token, err = d.master.token(ctx, dev.name); err != nil {
			return err
		}
	}
	if err := d.master.start(); err != nil {
		return err
	}
	d.heading("masterd starts, and each device syncs with a token of its own")
	return d.rounds(ctx, d.laptop, d.phone, d.laptop)
}

// rounds lets devices sync, one after the other, and shows what went over the wire, and what
// did not need to.
func (d *demo) rounds(ctx context.Context, devices ...*demoDevice) error {
	var shown []record
	var sum replicator.Round
	for _, dev := range devices {
		round, err := dev.sync(ctx, d.master.url(), &d.bars)
		if err != nil {
			return err
		}
		d.event("round", record{}.add("device", dev.name).add("round", round))
		shown = append(shown, record{}.add("device", dev.name).join(roundRecord(round)))
		sum.Mutations += round.Mutations
		sum.PushedRows += round.PushedRows
		sum.PulledRows += round.PulledRows
		sum.PulledBytes += round.PulledBytes
		sum.EchoRows += round.EchoRows
	}
	table := d.std.table(shown, append([]column{field("", "device")}, roundColumns...))
	d.text("  %s", strings.ReplaceAll(table, "\n", "\n  "))

	// A row that went to the other device would have come back at the same price.
	echoBytes := int64(sum.EchoRows) * sum.PulledBytes / int64(max(1, sum.PulledRows))
	if sum.Mutations > sum.PushedRows {
		d.text("  compaction        %s mutations travelled as %s", count(sum.Mutations), plural(sum.PushedRows, "row"))
	}
	if sum.EchoRows > 1 {
		d.text("  echo suppression  %s did not travel back to their author, about %s", plural(sum.EchoRows, "row"), bytesText(echoBytes))
	}
	d.event("saved", record{}.add("mutations", sum.Mutations).add("rows", sum.PushedRows).add("echo_rows", sum.EchoRows).add("echo_bytes", echoBytes))
	return nil
}

// workOffline stops the master; both devices go on, in the same rows too.
func (d *demo) workOffline(ctx context.Context) error {
	if err := d.master.close(); err != nil {
		return err
	}
	d.heading("masterd stops; both devices go on writing, to the same rows too")
	_, err := d.laptop.sync(ctx, d.master.url(), &d.bars)
	if !errors.Is(err, replicator.ErrOffline) {
		return fmt.Errorf("laptop: a sync without a master gives %v, want offline", err)
	}
	d.text("  laptop  a sync says the master can't be reached; nothing is lost, everything stays in the file")
	if err := d.editOnLaptop(ctx); err != nil {
		return err
	}
	// The master corrects each device's clock by the skew that it measures, to within the
	// time that the request takes. Edits a moment apart could change places.
	if err := pause(ctx, 300*time.Millisecond); err != nil {
		return err
	}
	return d.editOnPhone(ctx)
}

// syncAgain starts the master.
func (d *demo) syncAgain(ctx context.Context) error {
	if err := d.master.start(); err != nil {
		return err
	}
	d.heading("masterd starts again; they sync")
	return d.rounds(ctx, d.laptop, d.phone, d.laptop)
}

// conflicts shows what lost, on the device that wrote it.
func (d *demo) conflicts(ctx context.Context) error {
	d.heading("What lost against a concurrent edit is kept, on the device that wrote it")
	d.text("  %s", d.dim("SELECT * FROM velosync_conflicts   (weight, clock and value of each side)"))
	names, err := d.deviceNames(ctx)
	if err != nil {
		return err
	}
	found := 0
	for _, dev := range d.devices() {
		list, err := dev.database().query(ctx, `SELECT * FROM velosync_conflicts ORDER BY id`)
		if err != nil {
			return err
		}
		for _, r := range list {
			found++
			d.event("conflict", record{}.add("device", dev.name).join(r))
			d.conflict(r, names)
		}
	}
	if found == 0 {
		return errors.New("concurrent edits of the same rows left no conflict behind")
	}
	r, err := d.phone.database().one(ctx, `SELECT title, body FROM docs WHERE id = ?`, d.picked[2])
	if err != nil {
		return err
	}
	d.text("  %s: no conflict, the title is the laptop's and the body the phone's", d.bold(clip(d.picked[2], 40)))
	d.text("    %q, %q", clip(r.text("title"), 40), clip(r.text("body"), 48))
	return nil
}

// conflict shows one conflict: both values, weights and clocks, and the rule.
func (d *demo) conflict(r record, names *strings.Replacer) {
	d.text("  %s: %s, decided by %s", d.bold(clip(keyText(r), 40)), strings.ReplaceAll(r.text("kind"), "-", " "), ruleText(r))
	for _, side := range []struct{ word, name string }{{"kept", "theirs"}, {"lost", "mine"}} {
		clock := names.Replace(visible(r.text(side.name + "_clock")))
		d.text("    %s  %-6s  %-4s %-26s  %s", side.word, names.Replace(r.text(side.name+"_device")),
			orWord(r.text(side.name+"_weight"), "0"), clip(clock, 26), gist(r.text(side.name)))
	}
}

// gist shows the text that a version wrote, in 48 columns.
func gist(object string) string {
	var v struct {
		Title, Body *string
		Embedding   *json.RawMessage
	}
	if object == "" {
		return "(deleted)"
	}
	if err := json.Unmarshal([]byte(object), &v); err != nil {
		return clip(object, 48)
	}
	switch {
	case v.Body != nil && v.Embedding != nil:
		return fmt.Sprintf("%q + %s", clip(*v.Body, 26), describe(*v.Embedding))
	case v.Body != nil:
		return fmt.Sprintf("%q", clip(*v.Body, 46))
	case v.Title != nil:
		return fmt.Sprintf("%q", clip(*v.Title, 46))
	}
	return clip(describeObject(object), 48)
}

// deviceNames replaces device ids by names.
func (d *demo) deviceNames(ctx context.Context) (*strings.Replacer, error) {
	pairs := []string{`"`, ""}
	for _, dev := range d.devices() {
		r, err := dev.database().one(ctx, `SELECT velosync_device() AS id`)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, r.text("id"), dev.name)
	}
	return strings.NewReplacer(pairs...), nil
}

// settle brings back what lost by weight, in SQL.
func (d *demo) settle(ctx context.Context) error {
	r, err := d.phone.database().one(ctx, `SELECT id, mine ->> 'body' AS body FROM velosync_conflicts WHERE "key" = ?`, d.picked[0])
	if err != nil {
		return fmt.Errorf("phone: the conflict of %s: %w", d.picked[0], err)
	}
	d.heading("The phone's owner knows better, and settles it in SQL")
	d.text("  %s", d.dim(fmt.Sprintf("SELECT velosync_resolve(%d, 'mine')", r.number("id"))))
	if err := d.phone.exec(ctx, `SELECT velosync_resolve(?, 'mine')`, r.number("id")); err != nil {
		return err
	}
	if err := d.rounds(ctx, d.phone, d.laptop); err != nil {
		return err
	}
	now, err := d.laptop.database().one(ctx, `SELECT body FROM docs WHERE id = ?`, d.picked[0])
	if err != nil {
		return err
	}
	if now.text("body") != r.text("body") {
		return fmt.Errorf("laptop: %s has the body %q after the phone settled on %q", d.picked[0], now.text("body"), r.text("body"))
	}
	d.text("  laptop  has it now: %s", clip(now.text("body"), 70))
	return nil
}

// searchAll asks both devices the same.
func (d *demo) searchAll(ctx context.Context) error {
	d.heading("The same nearest neighbours on both devices, for %q", clip(d.Query, 40))
	mine, err := d.laptop.search(ctx, d.Query, 5)
	if err != nil {
		return err
	}
	theirs, err := d.phone.search(ctx, d.Query, 5)
	if err != nil {
		return err
	}
	if !slices.Equal(mine, theirs) {
		return fmt.Errorf("the devices find different neighbours of %q: laptop %v, phone %v", d.Query, mine, theirs)
	}
	for i, r := range mine {
		d.event("neighbour", record{}.add("rank", i+1).add("id", r.ID).add("similarity", r.Similarity).add("devices", 2))
		d.text("  %d. %.3f  %-36s %s", i+1, r.Similarity, clip(r.ID, 36), clip(r.Title, 48))
	}
	return nil
}

// compare ends the demo: every row of the three databases, value by value.
func (d *demo) compare(ctx context.Context) error {
	if err := d.master.close(); err != nil {
		return err
	}
	master, err := d.master.database(ctx)
	if err != nil {
		return err
	}
	defer master.Close()
	rows, err := compareTables(ctx, "docs", []named{{"laptop", d.laptop.database()}, {"phone", d.phone.database()}, {"master", master}})
	if err != nil {
		return err
	}
	took := time.Since(d.began)
	d.text("\n  %.1f s in all; every value of every row compared, on both devices and in the master's database", took.Seconds())
	if d.Keep != "" {
		d.text("  the databases are in %s: velosync status %s", d.work, quoteArg(d.laptop.path))
	}
	d.event("converged", record{}.add("rows", rows).add("devices", 2).add("ms", took.Milliseconds()))
	d.text("%s", d.good(fmt.Sprintf("converged: %d rows identical on 2 devices and master", rows)))
	return nil
}
