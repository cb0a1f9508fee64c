package sim

// Devices' clocks are wrong: in most runs by up to a day, in some by years, and there they
// jump while a transaction or a round is under way, and so does the master's. A wrong
// clock must never cost more than a tie, since causality comes first, and what a device
// claims is corrected by what its clock says as it pushes.

const (
	second = int64(1000)
	day    = 86_400 * second
	year   = 365 * day
)

// mostAhead is how far ahead of the master's clock a time may be, by the design.
const mostAhead = 5 * 60 * second

// A wrongness is how wrong the clocks of a run are.
type wrongness int

const (
	exactClocks wrongness = iota
	wrongByDays
	wrongByYears
)

func (w *world) drawWrongness() wrongness {
	switch x := w.rng.Float64(); {
	case x < .3:
		return exactClocks
	case x < .65:
		return wrongByDays
	}
	return wrongByYears
}

// drawSkew says by how much a device's clock is wrong, in ms.
func (w *world) drawSkew() int64 {
	switch w.clocks {
	case exactClocks:
		return 0
	case wrongByDays:
		return w.rng.Int64N(2*day) - day
	}
	if w.chance(.1) {
		return -w.now + w.rng.Int64N(day) // a board without a battery: it is 1970
	}
	return w.rng.Int64N(20*year) - 10*year
}

// jump sets a device's clock, now and then, where clocks are wrong by years.
func (d *device) jump(p float64, when string) {
	w := d.w
	if w.clocks != wrongByYears || w.calm || !w.chance(p) {
		return
	}
	was := d.skew
	switch x := w.rng.Float64(); {
	case x < .4:
		d.skew = w.drawSkew()
	case x < .7:
		d.skew -= w.rng.Int64N(10 * second) // as when the network tells the time
	default:
		d.skew += w.rng.Int64N(10 * second)
	}
	way := "forward"
	if d.skew < was {
		way = "back"
	}
	w.fault("clock jumps " + way + " " + when)
	w.say("the clock of %s jumps by %d s %s", d, (d.skew-was)/second, when)
}

// setBack sets the master's clock back. (Set forward, it forgets tombstones: a fault of
// runs with Options.Life.)
func (w *world) setBack() {
	if w.clocks != wrongByYears || w.now < 2*year {
		return
	}
	by := w.rng.Int64N(10 * second)
	if w.chance(.3) {
		by = w.rng.Int64N(year)
	}
	w.now -= by
	for _, d := range w.devices {
		d.skew += by // theirs go on
	}
	w.fault("the master's clock jumps back")
	w.say("the master's clock jumps back by %d s", by/second)
}

// corrected is the master's time of what a device says it wrote at claimed, when its clock
// shows device as it pushes: as long ago as the device says, never in the future by more
// than a little.
func corrected(claimed, device, master int64) int64 {
	if device > 0 { // else it does not say
		claimed = master - (device - claimed)
	}
	return max(0, min(claimed, master+mostAhead))
}
