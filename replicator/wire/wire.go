// Package wire turns a round's messages into the bytes of POST /v1/{space}/sync
// and POST /v1/{space}/ack, and back.
//
//	body, err := wire.EncodePush(push)
//	req.Header.Set("Content-Type", wire.ContentType)
//	req.Header.Set("Content-Digest", wire.Digest(body))
//	…
//	body, err = wire.ReadBody(resp.Body, limits.Body)
//	err = wire.CheckDigest(resp.Header.Get("Content-Digest"), body)
//	pull, err := wire.DecodePull(body, limits)
//
// A body is CBOR in zstd; rows are laid out by column. PROTOCOL.md describes it to
// the byte. A decoder trusts nothing: all that it reads is bounded by Limits before
// memory is taken for it.
package wire

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// Version is the protocol version that this package writes and reads.
const Version = 1

// ContentType is the media type of every body that this package writes. The body
// itself is zstd; no Content-Encoding is set.
const ContentType = "application/vnd.velosync+cbor"

// The kinds of message, second in the envelope.
const (
	kindPush     = 1
	kindPull     = 2
	kindAck      = 3
	kindAckReply = 4
)

var kindNames = [...]string{kindPush: "push", kindPull: "pull", kindAck: "ack", kindAckReply: "ack reply"}

func kindName(kind uint64) string {
	if kind >= kindPush && kind < uint64(len(kindNames)) {
		return kindNames[kind]
	}
	return "unknown"
}

// A VersionError reports a message of a protocol version that this program does not
// speak. Sending it again does not help: the older of both ends must be updated.
type VersionError struct {
	Got, Want uint64
}

func (e *VersionError) Error() string {
	older := "the sender"
	if e.Got > e.Want {
		older = "this program"
	}
	return fmt.Sprintf("wire: message has protocol version %d, this program speaks version %d: update %s", e.Got, e.Want, older)
}

// A LimitError reports a message that exceeds one of the Limits: nothing of it was
// used. The sender should send fewer rows at a time, or the limit be raised.
type LimitError struct {
	What  string // the limited thing, such as "rows"
	Limit int64
	Got   int64 // how many there were, at least
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("wire: %s: %d, the limit is %d: send less at a time, or raise the limit", e.What, e.Got, e.Limit)
}

// A FormatError reports bytes that are no message of protocol 1, or a value that
// the protocol does not carry. Sending the same again does not help.
type FormatError struct {
	Message string // "push", "pull", "ack", "ack reply"
	Block   int    // from 0; -1: not in a block
	Column  int    // of the block, from 0; -1: not in a column of values
	Row     int    // of the block, from 0; -1: not known
	Reason  string // what is wrong, and where it helps, what to do
	Err     error  // the cause, if another package found it
}

func (e *FormatError) Error() string {
	s := "wire: " + e.Message
	if e.Block >= 0 {
		s += fmt.Sprintf(": block %d", e.Block)
	}
	if e.Column >= 0 {
		s += fmt.Sprintf(", column %d", e.Column)
	}
	if e.Row >= 0 {
		s += fmt.Sprintf(", row %d", e.Row)
	}
	s += ": " + e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// bad returns a FormatError without a place; whoever knows the place fills it in.
func bad(format string, args ...any) *FormatError {
	return &FormatError{Block: -1, Column: -1, Row: -1, Reason: fmt.Sprintf(format, args...)}
}

func badRow(row int, format string, args ...any) *FormatError {
	e := bad(format, args...)
	e.Row = row
	return e
}

// inBlock, inColumn and inKeys add the place to an error that has none.
func inBlock(err error, block int) error {
	if e, ok := err.(*FormatError); ok && e.Block < 0 {
		e.Block = block
	}
	return err
}

func inColumn(err error, column int) error {
	if e, ok := err.(*FormatError); ok && e.Column < 0 {
		e.Column = column
	}
	return err
}

func inKeys(err error) error {
	if e, ok := err.(*FormatError); ok {
		e.Reason = "keys: " + e.Reason
	}
	return err
}

// of adds the message to an error.
func of(err error, kind uint64) error {
	if e, ok := err.(*FormatError); ok && e.Message == "" {
		e.Message = kindName(kind)
	}
	return err
}

// An envelope is [version, kind, map]. The version comes first and is read alone, so
// that the rest may change shape with it.
type envelope struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Kind    uint64
	Body    any
}

// A span is a CBOR byte string. Decoded, it is a part of the message's buffer, which
// is pooled: whoever reads it copies what it keeps.
type span []byte

func (s *span) UnmarshalCBOR(data []byte) error {
	major, n, rest, ok := cborHead(data)
	if !ok || major != 2 || n != uint64(len(rest)) {
		return errors.New("want a byte string")
	}
	*s = rest
	return nil
}

// cborHead reads the head of a CBOR item: its major type and its argument.
func cborHead(b []byte) (major byte, arg uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, 0, nil, false
	}
	major, info := b[0]>>5, b[0]&31
	b = b[1:]
	if info < 24 {
		return major, uint64(info), b, true
	}
	if info > 27 || len(b) < 1<<(info-24) {
		return 0, 0, nil, false
	}
	n := 1 << (info - 24)
	for _, c := range b[:n] {
		arg = arg<<8 | uint64(c)
	}
	return major, arg, b[n:], true
}

var encMode = sync.OnceValue(func() cbor.UserBufferEncMode {
	m, err := cbor.CoreDetEncOptions().UserBufferEncMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
})

// decModes holds a mode for each bound of array elements in use: one, as a rule.
var decModes sync.Map // int -> cbor.DecMode

func decMode(l Limits) cbor.DecMode {
	elements := min(max(16, l.Rows, l.Columns, l.Tables), math.MaxInt32)
	if m, ok := decModes.Load(elements); ok {
		return m.(cbor.DecMode)
	}
	m, _ := decModes.LoadOrStore(elements, newDecMode(elements))
	return m.(cbor.DecMode)
}

func newDecMode(elements int) cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   12,
		MaxArrayElements:  elements,
		MaxMapPairs:       64,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		panic(err) // options within their ranges
	}
	return m
}

// seal makes the body of a message. size is about how many bytes of CBOR it has.
func seal(kind uint64, message any, size int) ([]byte, error) {
	buf := getBuffer()
	defer putBuffer(buf)
	buf.Grow(size)
	if err := encMode().MarshalToBuffer(envelope{Version: Version, Kind: kind, Body: message}, buf); err != nil {
		return nil, of(bad("does not encode: %v", err), kind)
	}
	return deflate(buf.Bytes()), nil
}

// open inflates a body, checks version and kind, and hands the map to read. The
// bytes in message live until open returns.
func open[T any](kind uint64, body []byte, l Limits, read func(message *T) error) error {
	buf, err := inflate(body, l)
	if err != nil {
		return of(err, kind)
	}
	defer putBytes(buf)
	b := *buf
	major, n, rest, ok := cborHead(b)
	if !ok || major != 4 || n == 0 {
		return of(bad("not a VeloSync message: the envelope is not an array"), kind)
	}
	major, version, rest, ok := cborHead(rest)
	if !ok || major != 0 {
		return of(bad("not a VeloSync message: no version in the envelope"), kind)
	}
	if version != Version {
		return &VersionError{Got: version, Want: Version}
	}
	major, got, rest, ok := cborHead(rest)
	if !ok || major != 0 || n != 3 {
		return of(bad("not a VeloSync message: the envelope is not [version, kind, map]"), kind)
	}
	if got != kind {
		return of(bad("this is kind %d, %s: want kind %d, %s", got, kindName(got), kind, kindName(kind)), kind)
	}
	if len(rest) == 0 || rest[0]>>5 != 5 {
		return of(bad("the third item of the envelope is not a map"), kind)
	}
	var message T
	if err := decMode(l).Unmarshal(rest, &message); err != nil {
		e := bad("the map does not decode")
		e.Err = err
		return of(e, kind)
	}
	return of(read(&message), kind)
}
