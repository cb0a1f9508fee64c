package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

// A staging keeps the parts of long pushes until the last one has come.
type staging interface {
	// add keeps a part that others follow. Part 0 begins a push; a part that came already
	// is the same as before or begins the push anew from there.
	add(ctx context.Context, k uploadKey, p *change.Push, body []byte) error
	// take returns the parts that a last part, or a whole push, stands on: nil for a whole
	// one. The caller hands them back to put or drop.
	take(ctx context.Context, k uploadKey, last *change.Push) (*upload, error)
	put(u *upload)
	drop(u *upload)
	// parts yields the parts of u, read anew each time, then last.
	parts(ctx context.Context, u *upload, last *change.Push, l wire.Limits) iter.Seq2[*change.Push, error]
	bytes() int64 // what this process is charged
	ready() error // why it can't be used
	close() error
}

// newStaging returns the engine's staging, if it has one, or files.
func newStaging(engine store.Engine, o Options) staging {
	if s, ok := engine.(store.Stager); ok {
		return &sharedStaging{o: o, engine: s, swept: o.Now()}
	}
	return newFileStaging(o)
}

// A fileStaging keeps parts in a directory: one push for each device, each part a file as
// it was received. Nothing of it outlives the process,
// so nothing is synced to disk: a device whose parts are gone sends them again.
//
// An upload is in the map, or in the hands of one request that took it out. So nobody
// removes files under a push that is being applied.
type fileStaging struct {
	o    Options
	root *os.Root
	temp string // directory to remove at the end; "" if it is the operator's
	err  error  // why the directory can't be used

	mu      sync.Mutex
	uploads map[uploadKey]*upload
	used    map[uploadKey]int64 // bytes charged, by quota
	total   int64
	next    int64 // names of files
	swept   time.Time
}

// An uploadKey says whose a push is. The owner is part of it, so that nobody can put
// parts into another's push by claiming its device id.
type uploadKey struct {
	space  string
	owner  store.Owner
	device change.DeviceID
}

// quota is what bytes are counted by: the token, or the device where there are none.
func (k uploadKey) quota() uploadKey {
	if k.owner != "" {
		k.device = change.DeviceID{}
	}
	return k
}

// An upload is the parts of a push that have come. A nil upload has none.
type upload struct {
	key    uploadKey
	name   change.Name
	seen   change.Seq
	schema [32]byte
	parts  []part
	used   time.Time // when a part last came
}

type part struct {
	file string
	size int64
	rows int
	sum  [32]byte
}

func (u *upload) count() int {
	if u == nil {
		return 0
	}
	return len(u.parts)
}

func (u *upload) bytes() (n int64) {
	if u != nil {
		for _, p := range u.parts {
			n += p.size
		}
	}
	return n
}

func (u *upload) rows() (n int) {
	if u != nil {
		for _, p := range u.parts {
			n += p.rows
		}
	}
	return n
}

const partFile = "part-"

// charge is what a part counts: whole blocks of a file system, so that many small parts
// do not slip under the limits.
func charge(size int64) int64 { return (size + 4095) &^ 4095 }

func newFileStaging(o Options) *fileStaging {
	g := &fileStaging{o: o, uploads: make(map[uploadKey]*upload), used: make(map[uploadKey]int64), swept: o.Now()}
	g.err = g.open(o.Staging)
	return g
}

func (g *fileStaging) open(dir string) error {
	if dir == "" {
		temp, err := os.MkdirTemp("", "velosync-staging-")
		if err != nil {
			return fmt.Errorf("make a staging directory: %w", err)
		}
		dir, g.temp = temp, temp
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the staging directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the staging directory: %w", err)
	}
	g.root = root
	if err := g.clear(); err != nil {
		return fmt.Errorf("clear the staging directory: %w", err)
	}
	return nil
}

// clear removes our files, those of an earlier run included, and no others.
func (g *fileStaging) clear() error {
	entries, err := fs.ReadDir(g.root.FS(), ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), partFile) && e.Type().IsRegular() {
			errs = append(errs, g.root.Remove(e.Name()))
		}
	}
	return errors.Join(errs...)
}

func (g *fileStaging) ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g *fileStaging) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.root == nil {
		return nil
	}
	err := errors.Join(g.clear(), g.root.Close())
	if g.temp != "" {
		err = errors.Join(err, os.Remove(g.temp))
	}
	g.root, g.err = nil, errClosed
	return err
}

func (g *fileStaging) add(_ context.Context, k uploadKey, p *change.Push, body []byte) error {
	if err := g.ready(); err != nil {
		return err
	}
	name, sum := p.Names[len(p.Names)-1], sha256.Sum256(body)
	u := g.remove(k, name)
	if u == nil {
		u = &upload{key: k, name: name}
	}
	if err := u.check(p); err != nil {
		g.put(u)
		return err
	}
	if p.Part < len(u.parts) && u.parts[p.Part].sum == sum {
		g.put(u) // its answer was lost
		return nil
	}
	g.cut(u, p.Part)
	if p.Part == 0 {
		u.seen, u.schema = p.Seen, p.Schema
	}
	if p.Part >= g.o.MaxParts {
		g.drop(u)
		return tooManyParts(g.o)
	}
	file, err := g.reserve(u, int64(len(body)))
	if err != nil {
		g.drop(u)
		return err
	}
	u.parts = append(u.parts, part{file: file, size: int64(len(body)), rows: rowsOf(p.Blocks), sum: sum})
	if err := g.root.WriteFile(file, body, 0o600); err != nil {
		g.drop(u)
		return fmt.Errorf("stage part %d: %w", p.Part, err)
	}
	g.put(u)
	return nil
}

func (g *fileStaging) take(_ context.Context, k uploadKey, last *change.Push) (*upload, error) {
	if last.Paging {
		return nil, nil // asks for a page of the pull; has nothing to do with parts
	}
	u := g.remove(k, last.Names[len(last.Names)-1])
	if last.Part == 0 {
		g.drop(u)
		return nil, nil
	}
	if u == nil {
		u = &upload{}
	}
	if err := u.check(last); err != nil {
		g.put(u)
		return nil, err
	}
	g.cut(u, last.Part)
	return u, nil
}

// check says whether a part can follow those that came.
func (u *upload) check(p *change.Push) error {
	if p.Part > len(u.parts) {
		return as(http.StatusConflict, codePart, "part %d came, part %d is the next of this push here: send it again from part 0", p.Part, len(u.parts))
	}
	if p.Part > 0 && (p.Seen != u.seen || p.Schema != u.schema) {
		return &store.RequestError{Reason: fmt.Sprintf("part %d has another seen or schema than part 0", p.Part)}
	}
	return nil
}

// partMissing reports whether parts that a push stands on are not here.
func partMissing(err error) bool {
	var p *problem
	return errors.As(err, &p) && p.Code == codePart
}

// remove takes the device's upload out of the map; one of another name is dropped, for
// the device has gone on.
func (g *fileStaging) remove(k uploadKey, name change.Name) *upload {
	g.sweep()
	g.mu.Lock()
	u := g.uploads[k]
	delete(g.uploads, k)
	g.mu.Unlock()
	if u != nil && u.name != name {
		g.drop(u)
		u = nil
	}
	return u
}

// put gives an upload back, unless its device has begun another meanwhile.
func (g *fileStaging) put(u *upload) {
	if u == nil || len(u.parts) == 0 {
		return
	}
	g.mu.Lock()
	_, taken := g.uploads[u.key]
	if !taken {
		u.used = g.o.Now()
		g.uploads[u.key] = u
	}
	g.mu.Unlock()
	if taken {
		g.drop(u)
	}
}

// drop removes an upload's files. The upload is in no map.
func (g *fileStaging) drop(u *upload) {
	if u != nil {
		g.cut(u, 0)
	}
}

// cut removes the parts from n on.
func (g *fileStaging) cut(u *upload, n int) {
	var freed int64
	for _, p := range u.parts[n:] {
		if err := g.root.Remove(p.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.o.Log.Warn("staged part not removed", "file", p.file, "err", err)
		}
		freed += charge(p.size)
	}
	u.parts = u.parts[:n:n]
	if freed == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	q := u.key.quota()
	g.total -= freed
	if g.used[q] -= freed; g.used[q] == 0 {
		delete(g.used, q)
	}
}

// reserve charges a part of so many bytes, and names its file.
func (g *fileStaging) reserve(u *upload, size int64) (file string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q, n := u.key.quota(), charge(size)
	if g.used[q]+n > g.o.MaxPushBytes {
		return "", tooManyBytes(g.o)
	}
	if g.total+n > g.o.MaxStagedBytes {
		return "", tooManyStaged(g.o, g.total)
	}
	g.used[q] += n
	g.total += n
	g.next++
	return fmt.Sprintf("%s%d", partFile, g.next), nil
}

func tooManyParts(o Options) error {
	return tooLarge(int64(o.MaxParts), "the push has more than %d parts: push less at a time", o.MaxParts)
}

func tooManyBytes(o Options) error {
	return tooLarge(o.MaxPushBytes, "the parts take more than %d bytes: push less at a time", o.MaxPushBytes)
}

func tooManyStaged(o Options, total int64) error {
	return busy(http.StatusServiceUnavailable, 30*time.Second, "the parts of all devices take %d bytes, the limit is %d: try again later from part 0",
		total, o.MaxStagedBytes)
}

// sweep drops uploads whose next part did not come, a few times in their life.
func (g *fileStaging) sweep() {
	now := g.o.Now()
	var old []*upload
	g.mu.Lock()
	if now.Sub(g.swept) >= g.o.PartExpiry/4 {
		g.swept = now
		for k, u := range g.uploads {
			if now.Sub(u.used) >= g.o.PartExpiry {
				old = append(old, u)
				delete(g.uploads, k)
			}
		}
	}
	g.mu.Unlock()
	for _, u := range old {
		g.o.Log.Info("staged parts expired", "space", u.key.space, "device", u.key.device, "parts", len(u.parts), "bytes", u.bytes())
		g.drop(u)
	}
}

// bytes returns what staged parts are charged.
func (g *fileStaging) bytes() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

func (g *fileStaging) parts(_ context.Context, u *upload, last *change.Push, l wire.Limits) iter.Seq2[*change.Push, error] {
	return func(yield func(*change.Push, error) bool) {
		for i := range u.count() {
			p, err := g.decode(u.parts[i], l)
			if err != nil {
				yield(nil, fmt.Errorf("staged part %d: %w", i, internal{err}))
				return
			}
			if !yield(p, nil) {
				return
			}
		}
		yield(last, nil)
	}
}

func (g *fileStaging) decode(f part, l wire.Limits) (*change.Push, error) {
	body, err := g.root.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(body) != f.sum {
		return nil, errors.New("the file changed since it was written")
	}
	return wire.DecodePush(body, l)
}
