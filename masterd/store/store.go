// Package store keeps what the master knows: for each space its tables, beside each
// row the writes that it stands on, and the conflicts, devices and tokens.
//
//	engine, err := store.OpenSQLite(dir, store.Options{})
//	space, err := engine.Space(ctx, "notes")
//	pull, err := space.Sync(ctx, owner, last, parts)
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/velosync/velosync/capture/change"
)

// An Engine opens spaces and keeps the tokens that admit to them. All methods may be
// called by several goroutines.
type Engine interface {
	// Space opens a space, and makes it when it is new. The name matches ValidSpace.
	Space(ctx context.Context, name string) (Space, error)
	// Lookup is Space for a reader: it returns ErrNoSpace instead of making one.
	Lookup(ctx context.Context, name string) (Space, error)
	// Spaces lists the names of the spaces that exist, sorted.
	Spaces(ctx context.Context) ([]string, error)

	// AddToken stores a token's SHA-256; ErrTokenExists when the space has one for that device name.
	AddToken(ctx context.Context, hash [32]byte, t Token) error
	// FindToken returns the token with this hash, or ErrNoToken.
	FindToken(ctx context.Context, hash [32]byte) (Token, error)
	// Tokens lists the tokens of all spaces, by space and device name.
	Tokens(ctx context.Context) ([]Token, error)
	// RevokeToken forgets a token at once, or returns ErrNoToken.
	RevokeToken(ctx context.Context, space, device string) error

	// Ping reports whether the engine can serve.
	Ping(ctx context.Context) error
	Close() error
}

// A Token admits one device to one space. The device ids that a token has used are its
// own: another token that claims one of them is refused.
type Token struct {
	Space   string
	Device  string // a name for people
	Created time.Time
}

// Owner names who speaks, as a space records it beside a device id: the token's device
// name, or "" where tokens are not asked for.
type Owner string

// A Space is the unit of sync: some tables shared by some devices.
type Space interface {
	// Sync applies a push as one transaction and returns what the device lacks. last is
	// the push's last part, parts yields all of them in order, last included, and may be
	// ranged over more than once. A repeated push applies nothing.
	//
	// Errors: *SchemaError, *ForkedError, *RestoredError, *OwnerError, *ClashError,
	// *PageError, *RequestError; with any of them nothing was applied.
	Sync(ctx context.Context, owner Owner, last *change.Push, parts iter.Seq2[*change.Push, error]) (*change.Pull, error)
	// Ack records that a device holds everything up to seq and has heard that its log up
	// to lsn is applied. Both only rise, and are cut to what the master issued. It returns
	// what is recorded then.
	Ack(ctx context.Context, owner Owner, device change.DeviceID, seq change.Seq, lsn change.LSN) (change.Seq, change.LSN, error)
	// Head returns the newest seq, and a channel that is closed when there is a newer one.
	Head() (change.Seq, <-chan struct{})
	// Snapshot hands page the live rows of the space, all of one state of it, in pages of a
	// pull that tell a device with this schema digest what it lacks; the first brings the
	// tables. Where the state is the same, so are the pages. An error of page ends it.
	//
	// Errors: *PageError where the space does not know the digest, page's, ctx's.
	Snapshot(ctx context.Context, schema [32]byte, page func(*change.Pull) error) (*Snapshot, error)
	// Serve records that a device is being sent a snapshot; with nil it only checks the
	// device. A *PageError says that the snapshot is of no use any more, or that the device
	// has not pushed; an *OwnerError, that it is somebody else's.
	Serve(ctx context.Context, owner Owner, device change.DeviceID, s *Snapshot) error
	Stats(ctx context.Context) (Stats, error)
	// Schema returns the tables of the space.
	Schema(ctx context.Context) (change.Schema, error)
}

// Stats counts what a space holds.
type Stats struct {
	Space      string
	Head       change.Seq
	Rows       int64 // live rows of all tables
	Tombstones int64
	Conflicts  int64
	Bytes      int64 // of the store, its write-ahead log left out
	Devices    []DeviceStats
	// Since the store was opened:
	PushRows, PushDuplicates, PullRows, EchoRows, LostRows, RejectedRows int64
	// Digests are ranges that devices compared; of Divergences the device had something else.
	Digests, Divergences int64
}

// DeviceStats is a device's cursors.
type DeviceStats struct {
	ID      change.DeviceID
	Owner   Owner
	LSN     change.LSN // its log is applied up to here
	Acked   change.Seq // it holds everything up to here
	LastPut time.Time  // of its last push
}

// ValidSpace reports whether name can be a space: 1 to 64 of a-z, 0-9, _ and -.
func ValidSpace(name string) bool {
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-') {
			return false
		}
	}
	return 1 <= len(name) && len(name) <= 64
}

// Errors that callers branch on.
var (
	ErrNoSpace     = errors.New("store: no such space")
	ErrNoToken     = errors.New("store: no such token")
	ErrTokenExists = errors.New("store: the device has a token in this space already")
)

// A SchemaError says that the tables of a push and of the space do not fit. Unknown
// means that the master does not know the digest: send the tables with the push.
type SchemaError struct {
	Unknown bool
	Table   string
	Reason  string
}

func (e *SchemaError) Error() string {
	if e.Unknown {
		return "store: schema digest unknown: send the tables"
	}
	return fmt.Sprintf("store: table %q does not fit the space's: %s", e.Table, e.Reason)
}

// A ForkedError says that the master knows another branch of this device file: it was
// copied, or restored from an older copy. The device takes a new id and pushes again.
type ForkedError struct{ Device change.DeviceID }

func (e *ForkedError) Error() string {
	return fmt.Sprintf("store: device %v has another file that synced since this one did (a copy, or a backup restored): "+
		"this file must take a new id", e.Device)
}

// A RestoredError says that the device has seen what this master has not: the master
// was restored from an older copy. Common is the last seq that both know.
type RestoredError struct {
	Seen, Head, Common change.Seq
}

func (e *RestoredError) Error() string {
	return fmt.Sprintf("store: the device has seen seq %d, this master's history ends for it at %d (head %d): "+
		"the master was restored from an older copy", e.Seen, e.Common, e.Head)
}

// A ClashError says that a device made rows under numbers that rows of others have: with
// the option ids "renumber" they are two rows, and the device's get other numbers.
type ClashError struct{ Clashes []*change.Clash }

func (e *ClashError) Error() string {
	c := e.Clashes[0]
	return fmt.Sprintf("store: rows of %q were made under numbers that rows of other devices have (%d to %d, and so on): give them numbers from %d on",
		c.Table, c.IDs[0][0], c.IDs[0][1], c.Next)
}

// An OwnerError says that a device id belongs to another token.
type OwnerError struct{ Device change.DeviceID }

func (e *OwnerError) Error() string {
	return fmt.Sprintf("store: device id %v belongs to another token", e.Device)
}

// A PageError says that a pull can't be continued: the device pushed since, or its
// cursor is not one that the master gave. The device begins a new round.
type PageError struct{ Reason string }

func (e *PageError) Error() string { return "store: page not served: " + e.Reason }

// A RequestError says what is malformed in a push.
type RequestError struct{ Reason string }

func (e *RequestError) Error() string { return "store: bad request: " + e.Reason }
