package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/velosync/velosync/capture/change"
)

// ProblemType is the media type of every error answer (RFC 9457).
const ProblemType = "application/problem+json"

// The codes of error answers. They are stable: programs branch on them, people read
// the detail.
const (
	CodeMalformed      = "malformed"       // 400: the bytes are no message
	CodeDigest         = "digest-mismatch" // 400: damaged on the way; send the same again
	CodeVersion        = "version"         // 400: another protocol version; update one side
	CodeUnauthorized   = "unauthorized"    // 401: no token, or one unknown or revoked
	CodeForbidden      = "forbidden"       // 403: the token is not for this space or device
	CodeNoSpace        = "no-space"        // 404
	CodeForked         = "forked"          // 409: another file synced under this device id; take a new one
	CodeRestored       = "restored"        // 409: the master is an older copy; see Common
	CodeSchemaUnknown  = "schema-unknown"  // 409: send the tables with the push
	CodeSchemaMismatch = "schema-mismatch" // 409: the tables do not fit the space's
	CodeClash          = "clash"           // 409: rows need other numbers; see Clashes
	CodePage           = "page-gone"       // 409: push again, the page's pull is over
	CodePart           = "part-missing"    // 409: the parts before this one are not there; send the push again from part 0
	CodeTimeout        = "timeout"         // 408: the body came too slowly; send less at a time
	CodeTooLarge       = "too-large"       // 413: beyond a limit; send less at a time
	CodeMediaType      = "media-type"      // 415: not ContentType
	CodeBusy           = "busy"            // 429 or 503: send the same again after Retry-After
	CodeInternal       = "internal"        // 500: nothing was applied; send the same again
)

// A Problem is an error answer. As an error it says its detail.
type Problem struct {
	Type   string `json:"type,omitempty"` // absent means "about:blank"
	Title  string `json:"title,omitempty"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"` // for people: what is wrong, what to do
	// Versions lists the protocol versions that the master speaks, with CodeVersion.
	Versions []int `json:"versions,omitempty"`
	// Seen, Head and Common come with CodeRestored: what the device has seen, the
	// master's head, and the last seq that both have in common.
	Seen   int64 `json:"seen,omitempty"`
	Head   int64 `json:"head,omitempty"`
	Common int64 `json:"common,omitempty"`
	// Owned, with CodeForbidden, says that the device id belongs to another token: a file
	// that was copied takes a new one.
	Owned bool `json:"owned,omitempty"`
	// Table names the table at fault, with CodeSchemaMismatch.
	Table string `json:"table,omitempty"`
	// Clashes, with CodeClash, say which rows need other numbers.
	Clashes []*change.Clash `json:"clashes,omitempty"`
}

func (p *Problem) Error() string {
	return fmt.Sprintf("master answers %d %s: %s", p.Status, p.Code, p.Detail)
}

// Temporary reports whether the same request may succeed later as it is.
func (p *Problem) Temporary() bool {
	return p.Code == CodeDigest || p.Code == CodeBusy || p.Code == CodeInternal || p.Status >= 500
}

// ProblemOf returns the problem that an error of this package is, or nil for any other.
func ProblemOf(err error) *Problem {
	var (
		version *VersionError
		limit   *LimitError
		format  *FormatError
	)
	p := &Problem{Status: http.StatusBadRequest}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrDigest):
		p.Code = CodeDigest
	case errors.As(err, &version):
		p.Code, p.Versions = CodeVersion, []int{Version}
	case errors.As(err, &limit):
		p.Code, p.Status = CodeTooLarge, http.StatusRequestEntityTooLarge
	case errors.As(err, &format):
		p.Code = CodeMalformed
	default:
		return nil
	}
	p.Title, p.Detail = http.StatusText(p.Status), err.Error()
	return p
}

// ReadProblem reads an error answer with the given status. What is no problem of ours
// (a proxy's page, say) becomes one without a code, with its first bytes as the detail.
func ReadProblem(status int, body io.Reader) *Problem {
	const most = 64 << 10
	b, err := io.ReadAll(io.LimitReader(body, most))
	p := new(Problem)
	if err != nil || json.Unmarshal(b, p) != nil || p.Code == "" {
		p = &Problem{Detail: fmt.Sprintf("not an answer of masterd: %.200q", b)}
	}
	p.Status = status
	return p
}
