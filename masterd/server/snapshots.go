package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

// A snapshots keeps the files that new devices are sent, as many and as long as Options
// allow. Nothing of it outlives the process. The name of a file's content is its ETag, so a
// masterd that writes the same content again goes on with a download that another began.
type snapshots struct {
	o Options

	mu      sync.Mutex
	root    *os.Root // nil: no file was written yet, or closed
	temp    string   // directory to remove at the end; "" if it is the operator's
	closed  bool
	files   []*snapshotFile // in the order that they were last used
	bytes   int64
	next    int64 // names of files
	writing map[snapshotKey]chan struct{}
	expiry  *time.Timer
}

// A snapshotKey says who can be sent a file: devices of a space that have this schema.
type snapshotKey struct {
	space  string
	schema [32]byte
}

// A snapshotFile is a file on the disk. Files in use are not removed.
type snapshotFile struct {
	key   snapshotKey
	name  string
	shot  *store.Snapshot // nil: it is being written
	etag  string
	size  int64
	users int
	used  time.Time
}

const snapshotPrefix = "snapshot-"

func newSnapshots(o Options) *snapshots {
	return &snapshots{o: o, writing: make(map[snapshotKey]chan struct{})}
}

// open makes the directory, and clears it of what an earlier run left. The caller has the
// lock.
func (g *snapshots) open() error {
	if g.closed {
		return errClosed
	}
	if g.root != nil {
		return nil
	}
	dir := g.o.Snapshots
	if dir == "" {
		temp, err := os.MkdirTemp("", "velosync-snapshots-")
		if err != nil {
			return fmt.Errorf("make a directory for snapshots: %w", err)
		}
		dir, g.temp = temp, temp
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory for snapshots: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the directory for snapshots: %w", err)
	}
	if err := clearSnapshots(root); err != nil {
		return errors.Join(fmt.Errorf("clear the directory for snapshots: %w", err), root.Close())
	}
	g.root = root
	return nil
}

// clearSnapshots removes our files and no others.
func clearSnapshots(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), snapshotPrefix) && e.Type().IsRegular() {
			errs = append(errs, root.Remove(e.Name()))
		}
	}
	return errors.Join(errs...)
}

// close removes all files; nobody uses one any more.
func (g *snapshots) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.expiry != nil {
		g.expiry.Stop()
	}
	if g.root == nil {
		return nil
	}
	err := errors.Join(clearSnapshots(g.root), g.root.Close())
	if g.temp != "" {
		err = errors.Join(err, os.Remove(g.temp))
	}
	g.root, g.files, g.bytes = nil, nil, 0
	return err
}

// enter waits until nobody else looks for a file of this key or writes one; the caller calls
// leave.
func (g *snapshots) enter(ctx context.Context, key snapshotKey) (leave func(), err error) {
	for {
		g.mu.Lock()
		wait := g.writing[key]
		if wait == nil {
			done := make(chan struct{})
			g.writing[key] = done
			g.mu.Unlock()
			return func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				delete(g.writing, key)
				close(done)
			}, nil
		}
		g.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// find returns the file of a key that has this ETag, or else the newest; nil: there is none.
// The caller releases it.
func (g *snapshots) find(key snapshotKey, etag string) (found *snapshotFile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep()
	for _, f := range g.files {
		if f.key != key || f.shot == nil {
			continue
		}
		if f.etag == etag {
			found = f
			break
		}
		if found == nil || f.shot.Head >= found.shot.Head {
			found = f
		}
	}
	if found != nil {
		found.users++
	}
	return found
}

func (g *snapshots) release(f *snapshotFile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.users--
	f.used = g.o.Now()
	g.sweep()
}

// sweep removes the files that nobody has asked for in a while, now and whenever the next is
// due. The caller has the lock.
func (g *snapshots) sweep() {
	now := g.o.Now()
	for _, f := range slices.Clone(g.files) {
		if f.users == 0 && now.Sub(f.used) >= g.o.SnapshotExpiry {
			g.remove(f)
		}
	}
	if g.expiry == nil && len(g.files) > 0 && !g.closed {
		g.expiry = time.AfterFunc(g.o.SnapshotExpiry, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.expiry = nil
			g.sweep()
		})
	}
}

// remove removes a file. The caller has the lock.
func (g *snapshots) remove(f *snapshotFile) {
	if err := g.root.Remove(f.name); err != nil {
		g.o.Log.Warn("snapshot not removed", "file", f.name, "err", err)
	}
	g.files = slices.DeleteFunc(g.files, func(o *snapshotFile) bool { return o == f })
	g.bytes -= f.size
}

// room removes files that nobody uses, the least recently used first, until one more file
// and so many more bytes are allowed. The caller has the lock.
func (g *snapshots) room(files int, bytes int64) error {
	for len(g.files)+files > g.o.MaxSnapshots || g.bytes+bytes > g.o.MaxSnapshotBytes {
		var oldest *snapshotFile
		for _, f := range g.files {
			if f.users == 0 && (oldest == nil || f.used.Before(oldest.used)) {
				oldest = f
			}
		}
		if oldest == nil {
			return busy(http.StatusServiceUnavailable, 10*time.Second, "%d snapshots of %d bytes are in use, the limits are %d and %d: try again later",
				len(g.files), g.bytes, g.o.MaxSnapshots, g.o.MaxSnapshotBytes)
		}
		g.remove(oldest)
	}
	return nil
}

// A draft is a file while it is written.
type draft struct {
	g    *snapshots
	f    *snapshotFile
	file *os.File
	w    *bufio.Writer
	sum  wire.SnapshotSum
}

// create begins a file.
func (g *snapshots) create(key snapshotKey) (*draft, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.open(); err != nil {
		return nil, err
	}
	if err := g.room(1, 0); err != nil {
		return nil, err
	}
	g.next++
	f := &snapshotFile{key: key, name: fmt.Sprintf("%s%d", snapshotPrefix, g.next), users: 1}
	file, err := g.root.OpenFile(f.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a snapshot: %w", err)
	}
	g.files = append(g.files, f)
	return &draft{g: g, f: f, file: file, w: bufio.NewWriter(file)}, nil
}

// add writes the body of a page.
func (d *draft) add(body []byte) error {
	if err := d.charge(wire.SnapshotHeader + int64(len(body))); err != nil {
		return err
	}
	if _, err := d.sum.WriteRecord(d.w, body); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return nil
}

func (d *draft) charge(n int64) error {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	if d.f.size+n > d.g.o.MaxSnapshotBytes {
		return tooLarge(d.g.o.MaxSnapshotBytes, "a snapshot of the space has more than %d bytes: pull it in pages", d.g.o.MaxSnapshotBytes)
	}
	if err := d.g.room(0, n); err != nil {
		return err
	}
	d.f.size += n
	d.g.bytes += n
	return nil
}

// finish ends the file, whose pages are of shot, or removes it where err says that they are
// not all there. The caller releases what is returned.
func (d *draft) finish(shot *store.Snapshot, err error) (*snapshotFile, error) {
	if err == nil {
		err = d.charge(wire.SnapshotHeader)
	}
	if err == nil {
		if _, err = d.sum.WriteEnd(d.w); err == nil {
			err = d.w.Flush()
		}
	}
	err = errors.Join(err, d.file.Close())
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	if err != nil {
		d.g.remove(d.f)
		return nil, err
	}
	d.f.shot, d.f.etag = shot, d.sum.ETag()
	return d.f, nil
}

// reader opens a file for reading.
func (g *snapshots) reader(f *snapshotFile) (*os.File, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, errClosed
	}
	return g.root.Open(f.name)
}

// kept returns what the files are charged.
func (g *snapshots) kept() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes
}
