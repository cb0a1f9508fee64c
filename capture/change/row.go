package change

import "slices"

// A Dot names the write that a register holds, and how it ranks. Where concurrent writes
// became one by the column's policy, Device is zero, since no device alone wrote what stands
// there, and Rank and LSN are those of the greatest of them.
type Dot struct {
	Seq    Seq
	Device DeviceID
	LSN    LSN
	Rank   Rank
}

// A Row is what the master keeps of a row beside its values: the dot of each
// register, and the deletes that stand. The row exists when no delete stands.
type Row struct {
	// Regs has a dot a register; a deleted row keeps them, edits go on merging into them.
	// A register that nobody wrote, since its column came after the row, has the zero dot:
	// it is known to everyone.
	Regs  []Dot
	Tombs []Dot // the deletes that stand, at most one for each device
	// Took is what each of Tombs took from the counters; empty where the table has none.
	Took [][]Step
	// Sets says which writes added the elements of the row's sets, as package store writes it.
	Sets []byte
	Back Seq // the seq by which the row last came back from a delete, 0: never
	Feed Seq // the row's newest change: its place in the feed
	// Bare says that only deletes came of the row, see Edit.Lost: nobody wrote a register, and
	// there are no values.
	Bare bool
}

// Deleted reports whether a delete stands.
func (r *Row) Deleted() bool { return len(r.Tombs) > 0 }

// Strange reports whether an edit's author knew nothing of the row: no write that it stands
// on, and no delete. An insert of such a row met another row under its key.
func (r *Row) Strange(e Edit) bool {
	known := func(d Dot) bool { return d.Seq != 0 && d.knownTo(e.Seen, e.Device) }
	return !slices.ContainsFunc(r.Regs, known) && !slices.ContainsFunc(r.Tombs, known)
}

// A RegEdit is one register of an edit: what its author had seen of it, and the
// LSN of its newest mutation.
type RegEdit struct {
	Reg  int
	Seen Seq
	LSN  LSN
}

// An Edit is all pending mutations of one row on one device, compacted.
type Edit struct {
	Device  DeviceID
	Delete  bool
	LSN     LSN // the newest mutation's
	Seen    Seq // the smallest seen of any of its mutations: what it knows of the row's existence
	Rank    Rank
	Made    LSN       // see EditStamp
	Present bool      // see EditStamp
	Regs    []RegEdit // the registers written, ascending; a delete lists every register
	// Lacks are registers that its author's table has not, or that the edit leaves at
	// their default: a row can be made without them.
	Lacks Bits
	// Blend are registers whose concurrent versions become one by a policy.
	Blend Bits
	// Steps are registers, of counters and sets, of which the edit brings what it did to them.
	Steps Bits
	// Took is what a delete took from the counters.
	Took []Step
	// Lost says that the row may be of a history that a restored master lost: a delete of it
	// stands, though nothing is known of it.
	Lost bool
}

// Fresh returns the edit without what the master applied already, which is all up
// to last; ok is false when nothing is left. A delete is never split.
func (e Edit) Fresh(last LSN) (fresh Edit, ok bool) {
	if e.LSN <= last {
		return e, false
	}
	if e.Delete {
		return e, true
	}
	regs := make([]RegEdit, 0, len(e.Regs))
	for _, r := range e.Regs {
		if r.LSN > last {
			regs = append(regs, r)
		}
	}
	e.Regs = regs
	return e, true
}

// Bits returns the set of the edit's registers.
func (e Edit) Bits() (b Bits) {
	for _, r := range e.Regs {
		b |= Bit(r.Reg)
	}
	return b
}

// A Kind says what became of a write that did not stay.
type Kind string

// The kinds of loss.
const (
	UpdateLost         Kind = "update-lost"              // a concurrent update outranks it
	UpdateLostToDelete Kind = "update-lost-to-delete"    // a concurrent delete outranks it
	DeleteLost         Kind = "delete-lost"              // a concurrent update outranks the delete
	LostToForgotten    Kind = "lost-to-forgotten-delete" // the row is gone, and so is what is known of its delete
	Rejected           Kind = "rejected"                 // the row breaks a constraint
	Diverged           Kind = "diverged"                 // the row was not what the master has, and no write of it was logged
	StepInDoubt        Kind = "step-in-doubt"            // what was added to a counter may count already: another copy of the file may have sent it
)

// A Loss is a version that did not stay, for the conflict log.
type Loss struct {
	Kind     Kind
	Rule     Rule
	Regs     Bits // the registers that it lost
	Incoming bool // the edit itself lost; otherwise a stored version did
	Loser    Dot
	Winner   Dot
}

// An Outcome is what Merge decided.
type Outcome struct {
	Take  Bits // the registers that the edit writes
	Blend Bits // of them, those whose value is to be merged with the one that stands there
	Add   Bits // of them, counters and sets to which the edit's steps are to be done
	// Took is what a delete had taken from the counters that the edit follows: the row is
	// made anew, and they begin without it.
	Took   []Step
	Losses []Loss
}

// Merge applies an edit under the next seq to what is known of its row; row is nil
// when the master does not know the row, registers is the table's number of them.
// It returns the new state (nil when nothing is kept) and leaves row as it is.
//
// A row is a set of registers, and existence. Each is decided on its own: an edit
// that has seen the stored version replaces it, else the greater rank keeps the
// register. A delete stands unless an edit that it has not seen, and that still
// keeps a register, outranks it; it falls when an edit follows it, or keeps a
// register and outranks it. Dotted version vectors: Preguiça et al. 2012.
//
// A register with a policy has no conflicts: of concurrent versions both are kept, as one
// that nobody has seen who has not seen both. The greater rank speaks for it against deletes.
// Of two that were pushed back the greater rank stays here too: it has seen more of one history.
// A counter's steps are added whether they have seen the others or not; what a delete took
// from it counts when an edit follows the delete, not when the delete falls.
func Merge(row *Row, e Edit, seq Seq, registers int) (*Row, Outcome) {
	var out Outcome
	dot := Dot{Seq: seq, Device: e.Device, LSN: e.LSN, Rank: e.Rank}
	if row == nil {
		switch {
		case e.Delete && e.Lost: // others may bring the row back
			return &Row{Regs: make([]Dot, registers), Tombs: []Dot{dot}, Took: [][]Step{e.Took}, Feed: seq, Bare: true}, out
		case e.Delete: // a delete of a row that never came here
			return nil, out
		case e.Bits()|e.Lacks != AllBits(registers):
			out.lose(LostToForgotten, ByForgotten, AllBits(registers), true, dot, Dot{})
			return nil, out
		}
		r := &Row{Regs: make([]Dot, registers), Feed: seq}
		for _, g := range e.Regs {
			r.Regs[g.Reg] = dot
			r.Regs[g.Reg].LSN = g.LSN
		}
		out.Take = AllBits(registers)
		return r, out
	}
	r := &Row{
		Regs:  append([]Dot(nil), row.Regs...),
		Tombs: append([]Dot(nil), row.Tombs...),
		Took:  append([][]Step(nil), row.Took...),
		Sets:  row.Sets,
		Back:  row.Back,
		Feed:  seq,
		Bare:  row.Bare && e.Delete,
	}
	if e.Delete {
		return r.applyDelete(row, e, dot, &out), out
	}
	if row.Bare {
		if e.Bits()|e.Lacks != AllBits(registers) {
			out.lose(LostToForgotten, ByForgotten, AllBits(registers), true, dot, Dot{})
			kept := *row
			return &kept, out
		}
		e.Steps = 0 // there is nothing to add them to: its author shows the sum
	}
	r.applyUpdate(e, dot, row.Bare, &out)
	return r, out
}

func (d Dot) knownTo(seen Seq, device DeviceID) bool { return d.Seq <= seen || d.Device == device }

// merged returns the dot of a version that d and e, which is concurrent, became.
func (d Dot) merged(e Dot) Dot {
	if d.Rank.less(e.Rank) {
		d.Rank, d.LSN = e.Rank, e.LSN
	}
	d.Device = DeviceID{}
	return d
}

// Author returns d under the name of a device that hears of its loss.
func (d Dot) Author() Dot {
	d.Device = d.Rank.Device
	return d
}

func (r *Row) applyDelete(old *Row, e Edit, dot Dot, out *Outcome) *Row {
	var unseen Bits
	rival := -1
	for _, g := range e.Regs {
		d := r.Regs[g.Reg]
		if d.knownTo(g.Seen, e.Device) {
			continue
		}
		unseen |= Bit(g.Reg)
		if rival < 0 || r.Regs[rival].Rank.less(d.Rank) {
			rival = g.Reg
		}
	}
	all := AllBits(len(r.Regs))
	if unseen != 0 {
		if c, rule := e.Rank.Compare(r.Regs[rival].Rank); c < 0 {
			out.lose(DeleteLost, rule, all, true, dot, r.Regs[rival])
			kept := *old
			return &kept
		}
	}
	for i, d := range r.Regs {
		if unseen.Has(i) {
			_, rule := e.Rank.Compare(d.Rank)
			out.lose(UpdateLostToDelete, rule, Bit(i), false, d, dot)
		}
	}
	var stand []Dot
	var took [][]Step
	mine := e.Took
	for i, t := range r.Tombs {
		if !t.knownTo(e.Seen, e.Device) {
			stand, took = append(stand, t), append(took, r.took(i))
			continue
		}
		mine = slices.Concat(r.took(i), mine)
	}
	r.Tombs, r.Took = append(stand, dot), append(took, mine)
	return r
}

// took returns what a delete that stands took from the counters.
func (r *Row) took(tomb int) []Step {
	if tomb < len(r.Took) {
		return r.Took[tomb]
	}
	return nil
}

// applyUpdate applies an edit that is no delete; bare: to a row without values.
func (r *Row) applyUpdate(e Edit, dot Dot, bare bool, out *Outcome) {
	var win Bits
	for _, g := range e.Regs {
		d := r.Regs[g.Reg]
		mine := dot
		mine.LSN = g.LSN
		if e.Steps.Has(g.Reg) {
			win |= Bit(g.Reg)
			out.Add |= Bit(g.Reg)
			switch {
			case !d.knownTo(g.Seen, e.Device):
				mine = mine.merged(d)
			case r.Deleted(): // its author does not show this sum
				mine.Device = DeviceID{}
			}
			r.Regs[g.Reg] = mine
			continue
		}
		if d.knownTo(g.Seen, e.Device) {
			win |= Bit(g.Reg)
			r.Regs[g.Reg] = mine
			continue
		}
		if e.Blend.Has(g.Reg) && !(e.Rank.back() && d.Rank.back()) {
			win |= Bit(g.Reg)
			out.Blend |= Bit(g.Reg)
			r.Regs[g.Reg] = mine.merged(d)
			continue
		}
		c, rule := d.Rank.Compare(e.Rank)
		if c >= 0 {
			out.lose(UpdateLost, rule, Bit(g.Reg), true, mine, d)
			continue
		}
		win |= Bit(g.Reg)
		r.Regs[g.Reg] = mine
		out.lose(UpdateLost, rule, Bit(g.Reg), false, d, mine)
	}
	out.Take = win

	// Existence: the deletes that this edit follows or outranks no longer stand; an
	// edit that keeps no register outranks nothing.
	var stand []Dot
	var took [][]Step
	followed := -1
	for i, t := range r.Tombs {
		if t.knownTo(e.Seen, e.Device) {
			if followed < 0 || r.Tombs[followed].Rank.less(t.Rank) {
				followed = i
			}
			continue
		}
		if c, rule := t.Rank.Compare(e.Rank); win != 0 && c < 0 {
			out.lose(DeleteLost, rule, AllBits(len(r.Regs)), false, t, dot)
			continue
		}
		stand, took = append(stand, t), append(took, r.took(i))
	}
	if followed >= 0 && !bare { // of several the greatest counts
		out.Took = r.took(followed)
	}
	if len(stand) > 0 && win != 0 {
		_, rule := stand[0].Rank.Compare(e.Rank)
		out.lose(UpdateLostToDelete, rule, win, true, dot, stand[0])
	}
	if len(r.Tombs) > 0 && len(stand) == 0 {
		r.Back = dot.Seq // new for everyone, its author included; the dots stay what they are
	}
	r.Tombs, r.Took = stand, took
}

// lose records a loss; losses that differ in their registers only become one.
func (o *Outcome) lose(kind Kind, rule Rule, regs Bits, incoming bool, loser, winner Dot) {
	loser, winner = loser.Author(), winner.Author()
	for i := range o.Losses {
		l := &o.Losses[i]
		if l.Kind == kind && l.Rule == rule && l.Incoming == incoming && l.Loser.same(loser) && l.Winner.same(winner) {
			l.Regs |= regs
			return
		}
	}
	o.Losses = append(o.Losses, Loss{Kind: kind, Rule: rule, Regs: regs, Incoming: incoming, Loser: loser, Winner: winner})
}

func (d Dot) same(o Dot) bool { return d.Seq == o.Seq && d.Device == o.Device }
