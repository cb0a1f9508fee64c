package store

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// An UnavailableError says that the database does not answer, or has no room. What was asked
// for may have been done; it can be asked for again later.
type UnavailableError struct{ reason string }

func (e *UnavailableError) Error() string { return "store: the database can't be used: " + e.reason }

// unavailable makes an error that lies in the connection to the database an
// *UnavailableError, which shows nothing else of it: a connection that ended early is not a
// request that did.
func unavailable(ctx context.Context, err *error) {
	if *err == nil || ctx.Err() != nil {
		return
	}
	var said *pgconn.PgError
	if errors.As(*err, &said) {
		for _, class := range []string{"08", "53", "57"} { // connection, resources, an operator's intervention
			if strings.HasPrefix(said.Code, class) {
				*err = &UnavailableError{(*err).Error()}
				break
			}
		}
		return
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(*err, &connect) || errors.As(*err, &network) || errors.Is(*err, io.EOF) || errors.Is(*err, io.ErrUnexpectedEOF) ||
		errors.Is(*err, net.ErrClosed) || errors.Is(*err, pgconn.ErrConnClosed) || errors.Is(*err, context.DeadlineExceeded) || pgconn.SafeToRetry(*err) {
		*err = &UnavailableError{(*err).Error()}
	}
}
