package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/velosync/velosync/capture/change"
)

// sets works out what the edit makes of the row's sets, and who added their elements.
func (w *rowWrite) mergeSets() (reason string, err error) {
	regs := w.out.Take & w.batch.regs & w.table.sets
	if regs == 0 || w.known.row == nil || w.known.row.Bare {
		return "", nil
	}
	if err := w.load(); err != nil {
		return "", err
	}
	if w.blended == nil {
		w.blended = make([]change.Value, len(w.table.def.Columns))
	}
	edited := w.edited(regs)
	tag := change.Tag{Seq: w.seq, Device: w.fresh.Device}
	tags, err := w.table.readTags(w.known.row, w.old, w)
	if err != nil {
		return "", err
	}
	regs.Each(func(r int) {
		c := w.table.registers[r][0]
		if reason != "" {
			return
		}
		shown, err := change.SetOf(edited[c])
		if err != nil { // asked before
			reason = w.noSet(c, err)
			return
		}
		set := tags[r]
		if w.out.Add.Has(r) {
			var own []change.Step
			for _, x := range w.steps {
				if x.Reg == r {
					own = append(own, x)
				}
			}
			set.Apply(own, tag)
		} else {
			var replaces change.Tag
			if was := w.known.row.Regs[r]; was.Rank.Weight == change.PushedBack && w.fresh.Rank.Weight == change.PushedBack {
				replaces = change.Tag{Seq: was.Seq, Device: was.Rank.Device}
			}
			set.Take(shown, w.seenOf(change.Bit(r)), tag, replaces)
		}
		tags[r] = set
		if w.blended[c] = edited[c]; slices.Equal(set.Elements, shown) {
			return // as its author wrote it
		}
		text := change.SetText(set.Elements)
		if len(text) > change.MaxSet {
			reason = w.noSet(c, fmt.Errorf("with what others added, the set has %d bytes, want at most %d", len(text), change.MaxSet))
			return
		}
		w.blended[c], w.row.Regs[r].Device = text, change.DeviceID{}
	})
	w.mixed |= regs
	w.row.Sets = w.table.appendTags(nil, tags, w)
	return reason, nil
}

func (w *rowWrite) noSet(c int, err error) string {
	return fmt.Sprintf("column %s: %v", w.table.def.Columns[c].Name, err)
}

// Who added the elements of sets stands behind the dots: for each set of the table how
// many elements it has, varints all, and for each element how many writes added it, and of
// each the seq and the site. A row that was written once only has nothing of it: all
// elements are by the register's own write.

func (t *table) appendTags(dst []byte, sets map[int]change.Set, s sites) []byte {
	t.sets.Each(func(r int) {
		set := sets[r]
		dst = binary.AppendUvarint(dst, uint64(len(set.Elements)))
		for _, tags := range set.Tags {
			dst = binary.AppendUvarint(dst, uint64(len(tags)))
			for _, x := range tags {
				site := int64(0)
				if !x.Device.IsZero() {
					site = s.siteOf(x.Device)
				}
				dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(x.Seq)), uint64(site))
			}
		}
	})
	return dst
}

// readTags reads the sets of a row, by register, from its values and what is known of it.
func (t *table) readTags(row *change.Row, values []change.Value, s sites) (map[int]change.Set, error) {
	sets := make(map[int]change.Set)
	d := dotReader{b: row.Sets, sites: s}
	var err error
	t.sets.Each(func(r int) {
		elements, e := change.SetOf(values[t.registers[r][0]])
		if e != nil { // from before the column was a set: nobody's
			elements = nil
		}
		set := change.Set{Elements: elements, Tags: make([][]change.Tag, len(elements))}
		n := uint64(0)
		if len(d.b) > 0 {
			n = d.uint()
		}
		if n > 0 && n != uint64(len(elements)) && d.err == nil {
			d.fail()
		}
		for i := range set.Tags {
			if n == 0 {
				set.Tags[i] = []change.Tag{{Seq: row.Regs[r].Seq, Device: row.Regs[r].Device}}
				continue
			}
			for k := d.uint(); k > 0 && d.err == nil; k-- {
				x := change.Tag{Seq: change.Seq(d.uint())}
				if site := d.uint(); site != 0 {
					x.Device = d.device(site)
				}
				set.Tags[i] = append(set.Tags[i], x)
			}
		}
		sets[r] = set
	})
	if err == nil {
		err = d.err
	}
	return sets, err
}
