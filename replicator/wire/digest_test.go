package wire

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

func TestDigest(t *testing.T) {
	// RFC 9530, appendix B.1: {"hello": "world"} and a newline.
	body := []byte("{\"hello\": \"world\"}\n")
	const want = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
	if got := Digest(body); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, tt := range []struct {
		name, header string
		ok           bool
	}{
		{"as written", want, true},
		{"beside another", "sha-512=:AAAA:, " + want, true},
		{"before another", want + ",unixsum=:AAAA:", true},
		{"with a parameter", want + ";q=1", true},
		{"none", "", false},
		{"another only", "sha-512=:AAAA:", false},
		{"another body's", Digest(nil), false},
		{"cut", want[:40] + ":", false},
		{"without colons", strings.ReplaceAll(want, ":", ""), false},
		{"one colon", "sha-256=:", false},
		{"not base64", "sha-256=:!!!!:", false},
		{"empty", "sha-256=::", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := CheckDigest(tt.header, body)
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrDigest) {
				t.Errorf("got %v, want ok: %v", err, tt.ok)
			}
		})
	}
}

func TestReadBody(t *testing.T) {
	if b, err := ReadBody(strings.NewReader("12345"), 5); err != nil || string(b) != "12345" {
		t.Errorf("at the limit: got %q, %v", b, err)
	}
	_, err := ReadBody(strings.NewReader("123456"), 5)
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != 5 {
		t.Errorf("beyond the limit: got %v, want a LimitError of 5", err)
	}
	if _, err := ReadBody(strings.NewReader("123456"), 0); err != nil {
		t.Errorf("limit 0 means the default: got %v", err)
	}
	broken := errors.New("broken")
	if _, err := ReadBody(iotest.ErrReader(broken), 5); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}
