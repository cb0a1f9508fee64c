package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

// snapshot answers GET /v1/{space}/snapshot?device=…&schema=…: the rows of the space as
// devices with that schema see it, as one file that can be asked for in pieces. A file that
// is there serves as long as pages of a pull can go on from it, and it is not far behind.
func (s *Server) snapshot(w *response, r *http.Request, c caller) error {
	device, schema, err := snapshotQuery(r)
	if err != nil {
		return err
	}
	w.device = device.String()
	perKey := s.o.MaxDownloads
	if s.o.Insecure {
		perKey = 0 // all devices of a machine share an address
	}
	if !s.downloads.open(c.key, perKey, s.o.MaxDownloadsTotal) {
		return busy(http.StatusTooManyRequests, 5*time.Second, "%d snapshots are being sent to this token, or %d to all: try again later",
			s.o.MaxDownloads, s.o.MaxDownloadsTotal)
	}
	defer s.downloads.close(c.key)
	file, err := s.snapshotFor(r.Context(), c, device, schema, r.Header.Get("If-Range"))
	if err != nil {
		return err
	}
	defer s.snapshots.release(file)
	w.stream = true
	w.readFreely()
	h := w.Header()
	h.Set("Content-Type", wire.SnapshotType)
	h.Set("Cache-Control", "no-store")
	h.Set("ETag", file.etag)
	content, err := s.snapshots.reader(file)
	if err != nil {
		return fmt.Errorf("open the snapshot: %w", err)
	}
	defer content.Close()
	http.ServeContent(&steady{response: w, each: s.o.WriteTimeout}, r, "", time.Time{}, content)
	s.log.Debug("snapshot sent", "space", c.space, "device", w.device, "seq", file.shot.Head, "rows", file.shot.Rows, "bytes", w.bytes, "of", file.size)
	return nil
}

// snapshotQuery reads the names of the device and of its schema.
func snapshotQuery(r *http.Request) (device change.DeviceID, schema [32]byte, err error) {
	q := r.URL.Query()
	device, err = change.ParseDeviceID(q.Get("device"))
	if err == nil && hex.DecodedLen(len(q.Get("schema"))) != len(schema) {
		err = fmt.Errorf("schema %.100q: want 64 hex digits", q.Get("schema"))
	}
	if err == nil {
		_, err = hex.Decode(schema[:], []byte(q.Get("schema")))
	}
	if err != nil {
		return device, schema, &store.RequestError{Reason: err.Error()}
	}
	return device, schema, nil
}

// snapshotFor returns a file that the device may be sent, and records that it is. The caller
// releases it. A device that has a part of a file gets the rest, if that file is still there
// and of use. A file is written to its end also where the client has left: it asks again.
func (s *Server) snapshotFor(ctx context.Context, c caller, device change.DeviceID, schema [32]byte, etag string) (*snapshotFile, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.RequestTimeout)
	defer cancel()
	space, err := s.space(ctx, c)
	if err != nil {
		return nil, err
	}
	key := snapshotKey{space: c.space, schema: schema}
	leave, err := s.snapshots.enter(ctx, key)
	if err != nil {
		return nil, err
	}
	defer leave()
	for {
		file := s.snapshots.find(key, etag)
		if file == nil {
			break
		}
		head, _ := space.Head()
		if file.etag != etag && int64(head-file.shot.Head) > file.shot.Rows*int64(s.o.SnapshotLag)/100 {
			s.snapshots.release(file)
			break
		}
		err := space.Serve(ctx, c.owner, device, file.shot)
		if err == nil {
			return file, nil
		}
		s.snapshots.release(file)
		var gone *store.PageError
		if !errors.As(err, &gone) {
			return nil, fmt.Errorf("serve device %v: %w", device, err)
		}
		if file.etag != etag {
			break
		}
		etag = "" // the one that it has a part of is of no use any more; the newest may be
	}
	if err := space.Serve(ctx, c.owner, device, nil); err != nil { // before the work is done for it
		return nil, fmt.Errorf("serve device %v: %w", device, err)
	}
	file, err := s.writeSnapshot(ctx, space, key)
	if err != nil {
		return nil, err
	}
	if err := space.Serve(ctx, c.owner, device, file.shot); err != nil {
		s.snapshots.release(file)
		return nil, fmt.Errorf("serve device %v: %w", device, err)
	}
	return file, nil
}

// writeSnapshot writes a file of the space as it is now.
func (s *Server) writeSnapshot(ctx context.Context, space store.Space, key snapshotKey) (*snapshotFile, error) {
	began := time.Now()
	leave, err := s.gates.enter(ctx, key.space)
	if err != nil {
		return nil, err
	}
	defer leave()
	draft, err := s.snapshots.create(key)
	if err != nil {
		return nil, err
	}
	// A page is encoded while the next one is read.
	writing, writes := errgroup.WithContext(ctx)
	pages := make(chan *change.Pull)
	writing.Go(func() error {
		for page := range pages {
			body, err := encode(page)
			if err == nil {
				err = draft.add(body)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	shot, err := space.Snapshot(ctx, key.schema, func(page *change.Pull) error {
		select {
		case pages <- page:
			return nil
		case <-writes.Done():
			return context.Cause(writes)
		case <-s.closing:
			return errClosed
		}
	})
	close(pages)
	if wrote := writing.Wait(); wrote != nil {
		err = wrote
	}
	file, err := draft.finish(shot, err)
	if err != nil {
		return nil, err
	}
	s.log.Debug("snapshot written", "space", key.space, "seq", shot.Head, "rows", shot.Rows, "bytes", file.size, "took", time.Since(began))
	return file, nil
}

// A steady gives each piece of an answer a time of its own: a snapshot may take long, a
// reader that stands still may not.
type steady struct {
	*response
	each time.Duration
}

func (w *steady) Write(b []byte) (int, error) {
	w.deadline(w.each)
	return w.response.Write(b)
}
