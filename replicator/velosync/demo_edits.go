package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// pause waits, or returns early when ctx ends.
func pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

// editOnLaptop makes the earlier edits. The rows picked, in order: both rewrite the body, with
// different confidence; both change the title; one changes the title and one the body; here
// deleted, there rewritten; here retitled, there deleted.
func (d *demo) editOnLaptop(ctx context.Context) error {
	p, dev := d.picked, d.laptop
	body := "Reviewed on the laptop against the source. " + d.body(p[0])
	err := errors.Join(
		dev.rewrite(ctx, p[0], body, 0.9),
		dev.exec(ctx, `UPDATE docs SET title = 'laptop: ' || title WHERE id IN (?, ?, ?)`, p[1], p[2], p[4]),
		dev.exec(ctx, `DELETE FROM docs WHERE id = ?`, p[3]),
	)
	if err != nil {
		return err
	}
	d.text("  laptop  rewrites %s (confidence 0.9), deletes %s", short(p[0]), short(p[3]))
	d.text("  laptop  retitles %s, %s, %s", short(p[1]), short(p[2]), short(p[4]))

	const times = 25
	churned := d.busiest()
	var mutations int64
	for range times {
		n, err := dev.changes(ctx, `UPDATE docs SET confidence = confidence + 0.01 WHERE package = ? AND id NOT IN (?, ?, ?, ?, ?)`,
			churned, p[0], p[1], p[2], p[3], p[4])
		if err != nil {
			return err
		}
		mutations += n
	}
	where := short(churned)
	if churned == "." { // where a folder has no folders in it
		where = "the top folder"
	}
	d.text("  laptop  adjusts the confidence of all %s of %s, %d times over: %s mutations",
		plural(mutations/times, "doc"), where, times, count(mutations))

	which := `length(body) < 40`
	words := "with hardly any text"
	if d.Dir == "" {
		which, words = `body LIKE '%Deprecated:%'`, "marked as deprecated"
	}
	deleted, err := dev.changes(ctx, `DELETE FROM docs WHERE `+which+` AND package <> ? AND id NOT IN (?, ?, ?, ?, ?)`,
		churned, p[0], p[1], p[2], p[3], p[4])
	if err != nil {
		return err
	}
	if deleted > 0 {
		d.text("  laptop  deletes %s %s", plural(deleted, "doc"), words)
	}
	d.event("offline", record{}.add("device", dev.name).add("mutations", mutations+deleted+5))
	return nil
}

// busiest returns the package with the most documents.
func (d *demo) busiest() string {
	size := make(map[string]int)
	best := d.docs[0].Package
	for _, doc := range d.docs {
		size[doc.Package]++
		if n := size[doc.Package]; n > size[best] || n == size[best] && doc.Package < best {
			best = doc.Package
		}
	}
	return best
}

// body returns the text that a document was indexed with, shortened.
func (d *demo) body(id string) string {
	at := slices.IndexFunc(d.docs, func(doc document) bool { return doc.ID == id })
	first, _, _ := strings.Cut(d.docs[at].Body, "\n")
	return first
}

// editOnPhone makes the later edits, of the same rows, and adds some.
func (d *demo) editOnPhone(ctx context.Context) error {
	p, dev := d.picked, d.phone
	err := errors.Join(
		dev.rewrite(ctx, p[0], "Typed on the phone from memory. "+d.body(p[0]), 0.6),
		dev.exec(ctx, `UPDATE docs SET title = 'phone: ' || title WHERE id = ?`, p[1]),
		dev.rewrite(ctx, p[2], "With an example from the phone. "+d.body(p[2]), demoConfidence),
		dev.rewrite(ctx, p[3], "Still in use, says the phone. "+d.body(p[3]), 0.8),
		dev.exec(ctx, `DELETE FROM docs WHERE id = ?`, p[4]),
	)
	if err != nil {
		return err
	}
	d.text("  phone   rewrites %s (0.6), %s (0.8), %s", short(p[0]), short(p[3]), short(p[2]))
	d.text("  phone   retitles %s, deletes %s", short(p[1]), short(p[4]))
	notes := make([]document, 20)
	for i := range notes {
		notes[i] = document{
			ID: fmt.Sprintf("notes/%02d", i+1), Package: "notes", Name: fmt.Sprintf("%02d", i+1),
			Title: fmt.Sprintf("note %d", i+1), Body: "Look at " + d.docs[i*len(d.docs)/len(notes)].Title,
		}
	}
	notes[0].Title, notes[0].Body = "how to "+d.Query, "How to "+d.Query+", as told on the phone."
	if err := dev.index(ctx, notes); err != nil {
		return err
	}
	d.text("  phone   inserts %d notes, one about %q", len(notes), clip(d.Query, 40))
	d.event("offline", record{}.add("device", dev.name).add("mutations", 5+len(notes)))
	return nil
}
