package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/velosync/velosync/driver"
)

// look is how often the other device is asked whether it has the row.
const look = 50 * time.Microsecond

// propagation measures how long a write takes to another device, both with a replicator
// that sql.Open started.
func (b *bench) propagation(ctx context.Context) (err error) {
	fsync, err := b.fsync()
	if err != nil {
		return err
	}
	m, err := startMaster(filepath.Join(b.dir, "master2"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	trip, err := roundTrip(ctx, m.url+"/health")
	if err != nil {
		return err
	}
	b.add(
		row{Work: "one fsync of a 4 KiB append, p50", Figure: fsync, Unit: "ms", Note: fmt.Sprintf("in %s (%s)", filepath.Dir(b.dir), fileSystem(b.dir))},
		row{Work: "one HTTP round trip, p50", Figure: trip, Unit: "ms", Note: "GET /health on 127.0.0.1"},
	)
	one, err := b.join(ctx, m, "near")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, one.remove()) }()
	for _, s := range []string{createDocs, trackDocs} {
		if _, err := one.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	two, err := b.join(ctx, m, "far")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, two.remove()) }()
	if _, err := one.ExecContext(ctx, insertDoc, b.docs[b.size.writes].args()...); err != nil {
		return err
	}
	if err := waitFor(ctx, two, `SELECT count(*) FROM pragma_table_list WHERE name = 'docs'`, time.Millisecond); err != nil {
		return fmt.Errorf("wait for the table on the other device: %w", err)
	}
	var took []float64
	for i := range b.size.writes {
		d, err := b.carryOne(ctx, one, two, &b.docs[i])
		if err != nil {
			return err
		}
		took = append(took, d.Seconds()*1e3)
		time.Sleep(b.size.gap)
	}
	// On the way lie, one after the other, the fence and the master's commit, each synced to
	// the disk, then the push and the pull.
	floor := 2*fsync + 2*trip
	figure := func(name string, q, most float64, elsewhere string) row {
		v := quantile(took, q)
		return row{
			Work: "write on A seen on B, " + name, Figure: v, Unit: "ms", Ratio: v / floor, Floor: "2 fsyncs and 2 round trips", Elsewhere: elsewhere,
			Note: fmt.Sprintf("%d writes, B asked every %v", len(took), look),
		}.aims(atMost(most))
	}
	b.add(figure("p50", 0.5, 2, "1.9 in one process; 125 over HTTP"), figure("p95", 0.95, 5, "2.8 in one process"))
	return nil
}

// join opens a new file that syncs by itself.
func (b *bench) join(ctx context.Context, m *master, name string) (*database, error) {
	const space = "live"
	token, err := m.token(ctx, space, name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, name+".db")
	keys := url.Values{"_velosync_master": {m.url}, "_velosync_space": {space}, "_velosync_token": {token}, "_velosync_device_name": {name}}
	db, err := sql.Open(driver.Name, path+"?"+keys.Encode())
	if err != nil {
		return nil, err
	}
	if err := db.PingContext(ctx); err != nil { // the first connection starts the replicator
		return nil, errors.Join(err, db.Close())
	}
	return &database{db, path}, nil
}

// carryOne writes a row on one device and waits until the other has it.
func (b *bench) carryOne(ctx context.Context, one, two *database, d *doc) (time.Duration, error) {
	began := time.Now()
	if _, err := one.ExecContext(ctx, insertDoc, d.args()...); err != nil {
		return 0, err
	}
	err := waitFor(ctx, two, hasDoc, look, d.id)
	if err != nil {
		return 0, fmt.Errorf("wait for a row on the other device: %w", err)
	}
	return time.Since(began), nil
}

// waitFor returns once a count is not 0.
func waitFor(ctx context.Context, db *database, query string, every time.Duration, args ...any) error {
	const patience = 5 * time.Minute // a device's first rows may be many
	stmt, err := db.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for began := time.Now(); ; time.Sleep(every) {
		var n int
		switch err := stmt.QueryRow(args...).Scan(&n); {
		case err != nil:
			return err
		case n > 0:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(began) > patience:
			return fmt.Errorf("not there after %v", patience)
		}
	}
}

// fsync returns the median cost of an fsync, in milliseconds.
func (b *bench) fsync() (ms float64, err error) {
	f, err := os.CreateTemp(b.dir, "fsync-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, 4096)
	var took []float64
	for range 100 {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began).Seconds()*1e3)
	}
	return median(took), nil
}

// fileSystem names the kind of file system that a directory is on, as far as the system
// tells: ext4, tmpfs.
func fileSystem(dir string) string {
	kind, longest := "file system unknown", -1
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return kind // not on Linux
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line) // device, where, kind, options
		if len(f) < 3 || len(f[1]) <= longest {
			continue
		}
		if under := strings.TrimSuffix(f[1], "/"); dir == under || strings.HasPrefix(dir, under+"/") {
			kind, longest = f[2], len(f[1])
		}
	}
	return kind
}

// roundTrip returns the median of a small request over one connection, in milliseconds.
func roundTrip(ctx context.Context, address string) (float64, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var took []float64
	for range 100 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return 0, err
		}
		began := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began).Seconds()*1e3)
	}
	return median(took), nil
}
