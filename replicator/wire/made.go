package wire

import "github.com/velosync/velosync/capture/change"

// packMade returns, for each block that has rows, the LSNs that its rows were made by, as
// distances d from those of the rows' stamps: d, and -2-d for a row that was present before;
// -1 is for a row that was not made; nothing for a block without any that was. It returns
// nil where no block has any.
func packMade(blocks []change.Block) [][]byte {
	var packed [][]byte
	some := false
	for i := range blocks {
		b := &blocks[i]
		if len(b.Keys) == 0 {
			continue
		}
		made := false
		distances := make([]int64, len(b.Stamps))
		for j, s := range b.Stamps {
			distances[j] = -1
			if s.Made > 0 {
				distances[j], made = int64(s.LSN-s.Made), true
				if s.Present {
					distances[j] = -2 - distances[j]
				}
			}
		}
		packed = append(packed, nil)
		if made {
			some = true
			packed[len(packed)-1] = appendInts(nil, distances)
		}
	}
	if !some {
		return nil
	}
	return packed
}

// unpackMade reads what packMade wrote into the stamps of blocks.
func unpackMade(d *reader, blocks []change.Block, packed [][]byte) error {
	return unpackLists(d, "rows made", blocks, packed, func(b *change.Block) error {
		distances, err := d.ints(len(b.Stamps))
		if err != nil {
			return err
		}
		for j, distance := range distances {
			s := &b.Stamps[j]
			if distance == -1 {
				continue
			}
			if s.Present = distance < -1; s.Present {
				distance = -2 - distance
			}
			if distance >= int64(s.LSN) {
				return badRow(j, "the row was made %d before lsn %d", distance, s.LSN)
			}
			s.Made = s.LSN - change.LSN(distance)
		}
		return nil
	})
}

// unpackLists reads lists that stand beside the blocks, one for each, empty where a block has
// none: read takes the list that d then holds, to its end. Without any there are none.
func unpackLists(d *reader, what string, blocks []change.Block, packed [][]byte, read func(*change.Block) error) error {
	if len(packed) == 0 {
		return nil
	}
	if len(packed) != len(blocks) {
		return bad("%d lists of %s for %d blocks", len(packed), what, len(blocks))
	}
	for i, list := range packed {
		if len(list) == 0 {
			continue
		}
		d.b = list
		err := read(&blocks[i])
		if err == nil {
			err = d.end()
		}
		if err != nil {
			return inBlock(err, i)
		}
	}
	return nil
}
