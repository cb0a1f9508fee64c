package wire

import "github.com/velosync/velosync/capture/change"

// packElements returns, for each block that has rows, what its rows' steps of sets have
// beside those of counters: how much less than its row each step had seen, and its element.
// Nothing stands for a block whose steps are all of counters; nil where no block has others.
func packElements(blocks []change.Block) [][]byte {
	var packed [][]byte
	some := false
	for i := range blocks {
		b := &blocks[i]
		if len(b.Keys) == 0 {
			continue
		}
		var seen []int64
		var w writer
		own := false
		for j := range b.Stamps {
			s := &b.Stamps[j]
			for _, x := range s.Steps {
				seen, w.texts = append(seen, int64(s.Seen-x.Seen)), append(w.texts, string(x.Element))
				own = own || x.Element != "" || x.Seen != 0
			}
		}
		packed = append(packed, nil)
		if own {
			some = true
			packed[len(packed)-1] = w.appendTexts(appendInts(nil, seen), w.texts)
		}
	}
	if !some {
		return nil
	}
	return packed
}

// unpackElements reads what packElements wrote into the steps of blocks.
func unpackElements(d *reader, blocks []change.Block, packed [][]byte) error {
	return unpackLists(d, "elements", blocks, packed, func(b *change.Block) error { return d.elements(b.Stamps) })
}

func (d *reader) elements(stamps []change.EditStamp) error {
	var steps []*change.Step
	var rows []int
	for i := range stamps {
		for k := range stamps[i].Steps {
			steps, rows = append(steps, &stamps[i].Steps[k]), append(rows, i)
		}
	}
	if len(steps) == 0 {
		return bad("a list of elements, and no steps")
	}
	if err := d.count(2 * len(steps)); err != nil {
		return err
	}
	seen, err := d.ints(len(steps))
	if err != nil {
		return err
	}
	for k, x := range steps {
		if x.Seen = stamps[rows[k]].Seen - change.Seq(seen[k]); x.Seen < 0 {
			return badRow(rows[k], "a step that has seen %d", x.Seen)
		}
	}
	k := 0
	return d.texts(len(steps), d.limits.Value, func(s string) {
		steps[k].Element = change.Element(s)
		k++
	})
}
