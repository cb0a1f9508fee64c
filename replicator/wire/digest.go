package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrDigest reports a body whose bytes are not those that Content-Digest names, or
// that came without a digest. Nothing was applied; the same body may be sent again.
var ErrDigest = errors.New("wire: content digest mismatch")

// Digest returns the value of the Content-Digest header for a body as sent (RFC 9530).
func Digest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// CheckDigest compares a body with the sha-256 entry of a Content-Digest header;
// other algorithms beside it are not looked at. Its errors wrap ErrDigest.
func CheckDigest(header string, body []byte) error {
	for entry := range strings.SplitSeq(header, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok || name != "sha-256" {
			continue
		}
		value, _, _ = strings.Cut(value, ";") // parameters mean nothing here
		value = strings.TrimSpace(value)
		if len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
			return fmt.Errorf("%w: sha-256 is not base64 between colons", ErrDigest)
		}
		want, err := base64.StdEncoding.DecodeString(value[1 : len(value)-1])
		if err != nil {
			return fmt.Errorf("%w: sha-256 is not base64: %v", ErrDigest, err)
		}
		got := sha256.Sum256(body)
		if !bytes.Equal(got[:], want) {
			return fmt.Errorf("%w: the %d bytes received have sha-256 %x, the header says %x: send them again", ErrDigest, len(body), got, want)
		}
		return nil
	}
	return fmt.Errorf("%w: no sha-256 in the Content-Digest header", ErrDigest)
}

// ReadBody reads r to its end, or returns a *LimitError when it has more than limit
// bytes; limit 0 means the default of Limits.Body. It takes memory as bytes come, not
// as a header promises.
func ReadBody(r io.Reader, limit int64) ([]byte, error) {
	if limit <= 0 {
		limit = Limits{}.Defaults().Body
	}
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if err := over("bytes of the body", len(body), limit); err != nil {
		return nil, err
	}
	return body, nil
}
