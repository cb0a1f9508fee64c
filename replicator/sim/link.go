package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// A link is a device's way to the master. It loses, repeats, delays and damages.
type link struct{ d *device }

var errLost = errors.New("connection reset")

// errUnsent is what net/http returns where nothing was sent.
var errUnsent = &net.OpError{Op: "dial", Err: errors.New("no route to host")}

// mostLate is how many old requests the network keeps.
const mostLate = 12

// mostRequests is more than one Sync needs.
const mostRequests = 2000

// RoundTrip implements http.RoundTripper.
func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	d := l.d
	w := d.w
	var body []byte
	var err error
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	q := request{d: d, method: r.Method, url: r.URL.String(), header: r.Header.Clone(), body: body, byLSN: d.byLSN, tree: d.begun.tree}
	kind := "ack"
	if r.Method == http.MethodGet {
		kind = "snapshot"
	}
	if strings.HasSuffix(q.url, "/sync") {
		if q.push, err = wire.DecodePush(body, wire.Limits{}); err != nil {
			w.fail("%s sends what is no push: %v", d, err)
		}
		switch {
		case q.push.Paging:
			kind = "page"
		case q.push.More:
			kind = "part"
		default:
			kind = "push"
		}
		if !q.push.Paging {
			d.checkPush(q.push)
		}
	}
	w.work(kind+" requests", 1)
	d.countKept(kind, q, r.Header)
	if q.push != nil {
		s := sender{d.n, q.push.Device}
		w.sent[s] = max(w.sent[s], q.push.Through)
	}
	if d.requests++; d.requests > mostRequests {
		w.fail("%s: a round has no end", d)
	}
	if off, arrives := w.isOff(d); off {
		w.work("messages cut off", 1)
		w.say("%s is cut off", d)
		if !arrives {
			return nil, errUnsent
		}
		w.master.deliver(q)
		return nil, errLost
	}
	if q = w.o.mutant.request(w, q); w.calm {
		return respond(r, w.o.mutant.answer(w, q, w.master.deliver(q))), nil
	}
	switch {
	case w.chance(.025):
		w.fault(kind + " never sent")
		w.say("%s: %s is never sent", d, kind)
		return nil, errUnsent
	case w.chance(.03):
		w.fault(kind + " lost")
		w.say("%s: %s is lost", d, kind)
		if w.chance(.7) {
			w.keep(q)
		}
		return nil, errLost
	case len(body) > 0 && w.chance(.02):
		w.fault(kind + " damaged")
		w.say("%s: %s is damaged", d, kind)
		bad := q
		bad.body = bytes.Clone(q.body)
		bad.body[w.rng.IntN(len(bad.body))] ^= 1 << w.rng.IntN(8)
		if w.chance(.3) {
			bad.body = q.body[:w.rng.IntN(len(q.body))]
		}
		bad.push, bad.damaged = nil, true
		return respond(r, w.master.deliver(bad)), nil
	}
	if w.chance(.1) {
		w.keep(q)
	}
	a := w.o.mutant.answer(w, q, w.master.deliver(q))
	if w.chance(.04) {
		w.fault(kind + " repeated")
		w.say("%s: %s comes twice", d, kind)
		if w.chance(.3) {
			w.others(d, kind)
		}
		a = w.master.deliver(q)
	}
	if w.chance(.05) {
		w.others(d, kind)
	}
	if w.chance(.02) {
		w.fault("proxy answers " + kind)
		w.say("%s: a proxy answers %s in the master's place", d, kind)
		a = proxyAnswer(w.chance(.5))
	}
	l.tell(kind, a)
	if kind == "snapshot" && w.chance(.3) && a.body.Len() > 0 {
		w.fault("snapshot cut")
		a.body.Truncate(w.rng.IntN(a.body.Len()))
		w.say("%s: of the snapshot %d bytes come", d, a.body.Len())
	}
	switch {
	case w.chance(.05):
		w.fault("answer to " + kind + " lost")
		w.say("%s: answer to %s is lost", d, kind)
		return nil, errLost
	case w.chance(.015):
		w.fault("answer to " + kind + " damaged")
		w.say("%s: answer to %s is damaged", d, kind)
		if a.status < http.StatusMultipleChoices && a.body.Len() > 0 {
			if w.chance(.5) {
				a.body.Truncate(w.rng.IntN(a.body.Len()))
			} else {
				a.body.Bytes()[w.rng.IntN(a.body.Len())] ^= 1 << w.rng.IntN(8)
			}
		}
	}
	return respond(r, a), nil
}

// proxyAnswer is what stands between sends: that it is busy, or that it had no answer.
func proxyAnswer(busy bool) *answer {
	a := &answer{status: http.StatusBadGateway, header: make(http.Header)}
	if busy {
		a.status = http.StatusTooManyRequests
		a.header.Set("Content-Type", wire.ProblemType)
		a.body.WriteString(`{"status":429,"code":"busy","detail":"too many requests"}`)
	} else {
		a.body.WriteString("no answer")
	}
	return a
}

// tell writes the page that a device gets into the trace.
func (l *link) tell(kind string, a *answer) {
	if kind == "snapshot" {
		l.d.w.say("%s asks for a snapshot: %d, %d bytes %s", l.d, a.status, a.body.Len(), a.header.Get("Content-Range"))
	}
	if a.status != http.StatusOK || kind != "push" && kind != "page" {
		return
	}
	w := l.d.w
	p, err := wire.DecodePull(a.body.Bytes(), wire.Limits{})
	w.must(err, "read the master's answer")
	var rows []string
	for i := range p.Blocks {
		b := &p.Blocks[i]
		for _, key := range b.Keys {
			if b.Delete {
				rows = append(rows, fmt.Sprintf("%v gone", key))
			} else {
				rows = append(rows, fmt.Sprintf("%v registers %b", key, b.Regs))
			}
		}
	}
	whole := ""
	if p.Full {
		whole = "of a snapshot "
	}
	w.say("%s gets a page %sto %d, done %v: %s; %d lost", l.d, whole, p.To, p.Done, strings.Join(rows, ", "), len(p.Lost))
}

func respond(r *http.Request, a *answer) *http.Response {
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Header: a.header, Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(a.body.Bytes())), ContentLength: int64(a.body.Len()),
	}
}

// keep keeps a request, to let it arrive again.
func (w *world) keep(q request) {
	if len(w.late) == mostLate {
		w.late = w.late[1:]
	}
	w.late = append(w.late, q)
}

// deliverLate lets an old request arrive, for the first time or again; nobody hears the
// answer.
func (w *world) deliverLate() {
	if len(w.late) == 0 {
		return
	}
	q := w.late[w.rng.IntN(len(w.late))]
	w.fault("old request arrives")
	var through change.LSN
	if q.push != nil {
		through = q.push.Through
	}
	a := w.master.deliver(q)
	w.say("an old request of %s arrives, through %d: %d", q.d, through, a.status)
}
