package v1

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

// An answer is an answer of POST /sync on its way out.
type answer struct {
	head change.LSN // of the push
	*store.V1Answer
}

// pieces calls write with the answer, a piece at a time: one of many records is as long
// as the longest request. The slice is used again.
func (a *answer) pieces(write func([]byte) error) error {
	b := make([]byte, 0, 64<<10)
	b = append(b, `{"status":"ok","protocol_version":1,"replay_detected":`...)
	b = strconv.AppendBool(b, a.Replay)
	b = append(b, `,"acked_head_lsn":`...)
	b = strconv.AppendInt(b, int64(a.head), 10)
	b = append(b, `,"server_seq":`...)
	b = strconv.AppendInt(b, int64(a.Seq), 10)
	b = append(b, `,"applied":`...)
	b = strconv.AppendInt(b, int64(a.Applied), 10)
	b = append(b, `,"conflicts":[`...)
	for i, c := range a.Conflicts {
		b = comma(b, i)
		b = append(b, `{"vector_id":`...)
		b = appendString(b, c.ID)
		b = append(b, `,"resolution":"`...)
		b = append(append(b, c.Resolution...), `"}`...)
	}
	b = append(b, `],"rejected":[`...)
	for i, r := range a.Rejected {
		b = comma(b, i)
		b = append(append(b, `{"vector_id":`...), r.Name...)
		b = append(b, `,"reason":`...)
		b = append(appendString(b, r.Reason), '}')
	}
	b = append(b, `],"pull":[`...)
	for i := range a.Pull {
		if len(b) > 48<<10 {
			if err := write(b); err != nil {
				return err
			}
			b = b[:0]
		}
		b = comma(b, i)
		b = appendRecord(b, &a.Pull[i])
	}
	return write(append(b, "]}\n"...))
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return b
}

func appendRecord(b []byte, r *store.V1Record) []byte {
	b = append(b, `{"vector_id":`...)
	b = appendString(b, r.ID)
	b = append(b, `,"embedding":[`...)
	for i := 0; i+8 <= len(r.Embedding); i += 8 {
		b = comma(b, i)
		b = appendNumber(b, math.Float64frombits(binary.LittleEndian.Uint64(r.Embedding[i:])))
	}
	b = append(b, `],"metadata":`...)
	b = appendMetadata(b, r.Metadata)
	b = append(b, `,"semantic_weight":`...)
	b = appendNumber(b, r.Weight)
	b = append(b, `,"version_vector":{`...)
	sites := make([]string, 0, len(r.Clock))
	for site := range r.Clock {
		sites = append(sites, site)
	}
	slices.Sort(sites)
	for i, site := range sites {
		b = comma(b, i)
		b = append(appendString(b, site), ':')
		b = strconv.AppendUint(b, r.Clock[site], 10)
	}
	b = append(b, `},"updated_at":`...)
	b = appendNumber(b, r.Updated)
	b = append(b, `,"is_deleted":`...)
	b = strconv.AppendBool(b, r.Deleted)
	return append(b, '}')
}

// appendMetadata writes metadata as an object, whatever a device has stored: another
// value, or text that is no JSON, becomes the member "value".
func appendMetadata(b []byte, text string) []byte {
	text = strings.ToValidUTF8(text, "\ufffd")
	plain := checkPlain(text) == ""
	if s := (scanner{text: text}); plain && s.next() == '{' {
		return append(b, text...)
	}
	b = append(b, `{"value":`...)
	if plain {
		b = append(b, text...)
	} else {
		b = appendString(b, text)
	}
	return append(b, '}')
}

// appendString writes text as a JSON string.
func appendString(b []byte, text string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(text[i:])
			b = utf8.AppendRune(b, r) // U+FFFD for what is no UTF-8
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}
